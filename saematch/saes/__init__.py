"""What is a sparse autoencoder, and when are two of them comparable?"""
