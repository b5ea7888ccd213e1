"""The preprocess room: from the decoder's planes to the model's input tensor."""
