"""Worked examples, each run by `python -m pydl.examples.NAME`.

Images, of scikit-learn's digits or of a folder of IDX files (`--data`), with tables, and pictures where `--out` says:

linear_regression    the right half's ink from the left half's pixels; against least squares
logistic_regression  one of two kinds of image, with precision, recall, F1 and AUC
softmax_regression   a network without hidden layers
mlp                  two hidden layers; some 89 % on Fashion-MNIST in ten epochs
cnn                  Conv -> BatchNorm -> ReLU; some 93 % on Fashion-MNIST in ten epochs
augmentation         what each transform makes of the same images
regularization       none, L1, L2, elastic net, dropout, batch normalization and augmentation side by side
gradient_health      vanishing and exploding signals and gradients, by depth, by step and by time
input_normalization  one network on bytes, on numbers from 0 to 1, and on normalized ones

Sequences:

digit_rows           an image read row by row, one class at the end; 99 % of scikit-learn's digits
spoken_digits        which digit was said, of recordings of any length (the Free Spoken Digit Dataset)
captions             sentences about generated scenes; over 95 % exact on combinations never trained on

Text:

min_char_rnn         a character-level Elman network from the step and BPTT kernels alone, no autograd
char_rnn             a character-level LSTM with layers and autograd
"""
