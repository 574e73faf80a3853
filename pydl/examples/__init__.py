"""Worked examples, each run by `python -m pydl.examples.NAME`.

min_char_rnn  a character-level Elman network from the step and BPTT kernels alone, no autograd
char_rnn      a character-level LSTM with layers and autograd
"""
