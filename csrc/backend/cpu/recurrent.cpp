// Whole-sequence kernels of the Elman network, the LSTM and the GRU, forward and backward. This file only names them:
// the passes are in recurrent_forward.h and recurrent_backward.h, the cells in recurrent_rnn.h, recurrent_lstm.h and
// recurrent_gru.h.
#include "backend/cpu/recurrent_gru.h"
#include "backend/cpu/recurrent_lstm.h"
#include "backend/cpu/recurrent_rnn.h"

namespace pydl {
namespace {

template <template <class> class Cell>
void forward(const RecurrentForwardArgs& args, Exec& exec) noexcept {
  if (args.dtype == DType::float64) {
    ForwardPass<double, Cell<double>>(args, exec).run();
  } else {
    ForwardPass<float, Cell<float>>(args, exec).run();
  }
}

template <template <class> class Cell>
void backward(const RecurrentBackwardArgs& args, Exec& exec) noexcept {
  if (args.forward.dtype == DType::float64) {
    BackwardPass<double, Cell<double>>(args, exec).run();
  } else {
    BackwardPass<float, Cell<float>>(args, exec).run();
  }
}

}  // namespace
}  // namespace pydl

PYDL_FILL(recurrent) {
  table.rnn_forward = pydl::forward<pydl::RnnCell>;
  table.rnn_backward = pydl::backward<pydl::RnnCell>;
  table.lstm_forward = pydl::forward<pydl::LstmCell>;
  table.lstm_backward = pydl::backward<pydl::LstmCell>;
  table.gru_forward = pydl::forward<pydl::GruCell>;
  table.gru_backward = pydl::backward<pydl::GruCell>;
}
