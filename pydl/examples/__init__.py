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
glimpses             a network that sees small patches of an image and decides where to look next (REINFORCE)
drawing              digits painted step by step by a recurrent variational generator (DRAW)

Sequences, on data made on the spot or named by `--data`:

dates                written dates into ISO dates: encoder, decoder and attention, with heat maps
translation          short English sentences into French, or sums in words; BLEU, heat maps
frames               a label for every frame of a moving pattern
gradient_flow        how far gradients reach back in time, with clipping and truncated BPTT
digit_rows           an image read row by row, one class at the end; 99 % of scikit-learn's digits
spoken_digits        which digit was said, of recordings of any length (the Free Spoken Digit Dataset)
captions             sentences about generated scenes; over 95 % exact on combinations never trained on

Text:

min_char_rnn         a character-level Elman network from the step and BPTT kernels alone, no autograd
char_rnn             a character-level LSTM with layers and autograd
texts                Python, C, LaTeX or literature: trained, sampled on the way, looked into
"""
