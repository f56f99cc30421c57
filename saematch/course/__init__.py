"""The course: exercises that know their usual mistakes. The face is `saematch.course.check`."""
