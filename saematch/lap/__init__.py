"""Exact linear assignment of rows, with a proof: knows rows and costs, and no autoencoder. The face is `saematch.lap.assign`."""
