"""What does the language model do with a feature?"""
