// Whole-sequence kernels of the Elman network, the LSTM and the GRU: what the host does around the steps
// (recurrent_steps.h). The input's products are made for all steps at once before them, the gradients of weights and
// inputs after them; where the input is rows of a table, once for each row of the table, as on the CPU.
//
// Rows past their sequence's end have gate gradients of zero, and what they would multiply is put to zero as well, so
// that padding is never read. All products go through the table's own gemm.
#include "backend/cuda/recurrent_rows.h"

namespace pydl {
namespace {

constexpr int64_t kGatesTogether = 1 << 24;  // elements of gates kept at a time where nobody needs them later

size_t shared_limit() {
  int device = 0, bytes = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess)
    return 48 << 10;
  return static_cast<size_t>(bytes);
}

template <class T>
RecurrentPlan plan_for(const RecurrentForwardArgs& f, int gates, bool backward) {
  const RecurrentProblem problem{f.batch,
                                 f.hidden_size,
                                 backward ? gates * f.hidden_size : f.hidden_size,
                                 gates,
                                 backward,
                                 sizeof(T),
                                 cuda::multiprocessors(),
                                 shared_limit()};
  return choose_plan(problem);
}

template <class T>
SequenceView<T> view_of(const RecurrentForwardArgs& f, int gates) {
  SequenceView<T> s;
  s.steps = f.steps;
  s.batch = f.batch;
  s.hidden = f.hidden_size;
  s.width = gates * f.hidden_size;
  s.reverse = f.reverse;
  s.relu = f.relu;
  s.lengths = f.lengths;
  s.h0 = static_cast<const T*>(f.h0);
  s.c0 = static_cast<const T*>(f.c0);
  s.y = static_cast<T*>(f.y);
  s.y_step = f.y_step;
  s.y_batch = f.y_batch;
  s.ws_gates = static_cast<T*>(f.ws_gates);
  s.ws_cell = static_cast<T*>(f.ws_cell);
  return s;
}

template <class T>
void copy_or_zero(Exec& exec, int64_t count, const void* src, T* dst) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(T);
  if (src == nullptr) {
    fill_bytes(exec, dst, 0, bytes);
  } else if (bytes > 0 && src != dst) {
    cuda::keep_error(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, stream_of(exec)), "cudaMemcpyAsync");
  }
}

// dst (rows, n) = a (rows, k) @ b + bias: what all products here share.
template <class T>
GemmArgs product(int64_t m, int64_t n, int64_t k) {
  GemmArgs g{};
  g.dtype = sizeof(T) == 4 ? DType::float32 : DType::float64;
  g.m = m;
  g.n = n;
  g.k = k;
  g.batch = 1;
  g.alpha = 1;
  return g;
}

// Rows (t, b) of a matrix that is not one block of memory: one tall product where they are evenly apart, else a batch
// of products over the shorter axis. The fields of GemmArgs are filled for A (in) and dst (out).
void rows_of_product(GemmArgs& g, int64_t steps, int64_t batch, int64_t a_step, int64_t a_batch, int64_t dst_step,
                     int64_t dst_batch) {
  if ((steps <= 1 || a_step == batch * a_batch) && (steps <= 1 || dst_step == batch * dst_batch)) {
    g.m = steps * batch;
    g.a_row = a_batch;
    g.dst_row = dst_batch;
  } else if (steps >= batch) {
    g.m = steps;
    g.batch = batch;
    g.a_row = a_step;
    g.a_batch = a_batch;
    g.dst_row = dst_step;
    g.dst_batch = dst_batch;
  } else {
    g.m = batch;
    g.batch = steps;
    g.a_row = a_batch;
    g.a_batch = a_step;
    g.dst_row = dst_batch;
    g.dst_batch = dst_step;
  }
}

// One launch for many steps where the weights stay on the chip, else one for each; several where the rows of the batch
// do not all fit.
template <class Kernel, class Steps>
void launch_steps(Kernel* kernel, const char* name, Steps p, bool forward, Exec& exec) {
  const RecurrentPlan& plan = p.plan;
  if (!allow_shared(kernel, plan.shared_bytes)) return;
  const int64_t begin = p.begin, end = p.end;
  for (int64_t row = 0; row < p.s.batch; row += int64_t{plan.rows} * plan.row_tiles) {
    p.first_row = row;
    const int64_t tiles = parts_of(p.s.batch - row, plan.rows);
    const dim3 grid(static_cast<unsigned>(plan.unit_tiles),
                    static_cast<unsigned>(tiles < plan.row_tiles ? tiles : plan.row_tiles));
    if (plan.resident) {
      if (grid.x > 1) {
        launch_cooperative(kernel, name, grid, dim3(kRecurrentThreads), plan.shared_bytes, exec, p);
      } else {
        PYDL_CUDA_LAUNCH(kernel, grid, dim3(kRecurrentThreads), plan.shared_bytes, exec, p);
      }
      continue;
    }
    for (int64_t i = 0; i < end - begin; ++i) {
      p.begin = forward ? begin + i : end - 1 - i;
      p.end = p.begin + 1;
      PYDL_CUDA_LAUNCH(kernel, grid, dim3(kRecurrentThreads), plan.shared_bytes, exec, p);
    }
    p.begin = begin;
    p.end = end;
  }
}

template <class T, template <class> class Cell>
void forward_typed(const RecurrentForwardArgs& f, Exec& exec) {
  constexpr int kGates = Cell<T>::kGates;
  const int64_t states = f.batch * f.hidden_size;
  if (states <= 0) return;
  ForwardSteps<T> p{};
  p.s = view_of<T>(f, kGates);
  const int64_t width = p.s.width, shared = Cell<T>::kSplitsLast ? width - f.hidden_size : width;
  T* h_n = static_cast<T*>(f.h_n);
  DeviceScratch<T> other(exec, states), bias(exec, width);
  if (!other || !bias) return;
  // The state after the last step is h_n.
  p.h_even = f.steps % 2 == 0 ? h_n : other.get();
  p.h_odd = f.steps % 2 == 0 ? other.get() : h_n;
  p.c = static_cast<T*>(f.c_n);
  copy_or_zero(exec, states, f.h0, p.h_even);
  if (Cell<T>::kHasCell) copy_or_zero(exec, states, f.c0, p.c);
  if (f.steps <= 0) return;
  const T *b_ih = static_cast<const T*>(f.b_ih), *b_hh = static_cast<const T*>(f.b_hh);
  const bool biased = b_ih != nullptr || b_hh != nullptr;
  if (biased)
    PYDL_CUDA_LAUNCH((join_biases<T>), dim3(grid_for(width)), dim3(kBlock), 0, exec, width, shared, b_ih, b_hh,
                     bias.get());
  p.last_bias = Cell<T>::kSplitsLast && b_hh != nullptr ? b_hh + shared : nullptr;
  p.w_hh = static_cast<const T*>(f.w_hh);
  p.plan = plan_for<T>(f, kGates, false);
  p.x_rows = f.x_rows;
  p.x_rows_step = f.x_rows_step;
  p.x_rows_batch = f.x_rows_batch;

  GemmArgs g = product<T>(f.x_count, width, f.input_size);
  g.b = f.w_ih;
  g.b_row = 1;
  g.b_col = f.input_size;
  g.bias = biased ? bias.get() : nullptr;
  g.a_col = 1;
  const bool kept = f.ws_gates != nullptr && f.x_rows == nullptr;
  int64_t together = kGatesTogether / (f.batch * width);
  together = kept || f.x_rows != nullptr || together > f.steps ? f.steps : together < 1 ? 1 : together;
  DeviceScratch<T> gates(exec, kept ? 0 : (f.x_rows != nullptr ? f.x_count : together * f.batch) * width);
  if (!kept && !gates) return;
  T* in = kept ? static_cast<T*>(f.ws_gates) : gates.get();
  p.in = in;
  if (f.x_rows != nullptr) {
    g.a = f.x;
    g.a_row = f.input_size;
    g.dst = in;
    g.dst_row = width;
    exec.table->gemm(g, exec);
  }
  for (int64_t step = 0; step < f.steps; step += together) {
    p.begin = step;
    p.end = step + together < f.steps ? step + together : f.steps;
    if (f.x_rows == nullptr) {
      const int64_t first = f.reverse ? f.steps - p.end : p.begin;
      p.in_time = first;
      g.batch = 1;
      rows_of_product(g, p.end - p.begin, f.batch, f.x_step, f.x_batch, f.batch * width, width);
      g.a = static_cast<const T*>(f.x) + first * f.x_step;
      g.dst = in;
      if (kept) p.in_time = 0;
      exec.table->gemm(g, exec);
    }
    switch (p.plan.each) {
      case 1:
        launch_steps(forward_steps<T, Cell, 1>, "recurrent forward", p, true, exec);
        break;
      case 2:
        launch_steps(forward_steps<T, Cell, 2>, "recurrent forward", p, true, exec);
        break;
      default:
        launch_steps(forward_steps<T, Cell, 4>, "recurrent forward", p, true, exec);
    }
  }
}

template <class T, template <class> class Cell>
class Gradients {
 public:
  Gradients(const RecurrentBackwardArgs& args, const SequenceView<T>& s, const T* d_gates, const T* d_last, Exec& exec)
      : a_(args), f_(args.forward), s_(s), d_gates_(d_gates), d_last_(d_last), exec_(exec), rows_(s.steps * s.batch) {}

  void run() {
    if (f_.x_rows != nullptr) {
      of_table();
    } else {
      of_input();
      of_input_weights();
    }
    of_recurrent_weights();
    of_biases();
  }

 private:
  // dst (m, n) = left (rows, m)^T @ right (rows, n)
  void outer(int64_t rows, int64_t m, int64_t n, const T* left, int64_t left_row, const T* right, int64_t right_row,
             void* dst) {
    GemmArgs g = product<T>(m, n, rows);
    g.a = left;
    g.a_row = 1;
    g.a_col = left_row;
    g.b = right;
    g.b_row = right_row;
    g.b_col = 1;
    g.dst = dst;
    g.dst_row = n;
    exec_.table->gemm(g, exec_);
  }

  GemmArgs through_input_weights(int64_t rows, const T* d) {
    GemmArgs g = product<T>(rows, f_.input_size, s_.width);
    g.a = d;
    g.a_row = s_.width;
    g.a_col = 1;
    g.b = f_.w_ih;
    g.b_row = f_.input_size;
    g.b_col = 1;
    g.dst = a_.d_x;
    g.dst_row = f_.input_size;
    return g;
  }

  void of_input() {
    if (a_.d_x == nullptr || rows_ == 0) return;
    GemmArgs g = through_input_weights(rows_, d_gates_);
    rows_of_product(g, s_.steps, s_.batch, s_.batch * s_.width, s_.width, a_.d_x_step, a_.d_x_batch);
    exec_.table->gemm(g, exec_);
  }

  void of_input_weights() {
    if (a_.d_w_ih == nullptr) return;
    const T* x = static_cast<const T*>(f_.x);
    const bool even = f_.lengths == nullptr && (f_.x_step == s_.batch * f_.x_batch || s_.steps <= 1);
    DeviceScratch<T> gathered(exec_, even ? 0 : rows_ * f_.input_size);
    if (!even) {
      if (!gathered) return;
      PYDL_CUDA_LAUNCH((gather_inputs<T>), dim3(grid_for(rows_ * f_.input_size)), dim3(kBlock), 0, exec_, s_,
                       f_.input_size, x, f_.x_step, f_.x_batch, gathered.get());
    }
    outer(rows_, s_.width, f_.input_size, d_gates_, s_.width, even ? x : gathered.get(),
          even ? f_.x_batch : f_.input_size, a_.d_w_ih);
  }

  void of_table() {
    if (a_.d_x == nullptr && a_.d_w_ih == nullptr) return;
    DeviceScratch<T> sums(exec_, f_.x_count * s_.width);
    if (!sums) return;
    if (f_.x_count > 0) {
      const dim3 grid(static_cast<unsigned>(f_.x_count < 65536 ? f_.x_count : 65536),
                      static_cast<unsigned>(parts_of(s_.width, kPickThreads * kPickEach)));
      PYDL_CUDA_LAUNCH((picked_sums<T>), grid, dim3(kPickThreads), 0, exec_, s_, f_.x_rows, f_.x_rows_step,
                       f_.x_rows_batch, f_.x_count, d_gates_, sums.get());
    }
    if (a_.d_w_ih != nullptr)
      outer(f_.x_count, s_.width, f_.input_size, sums.get(), s_.width, static_cast<const T*>(f_.x), f_.input_size,
            a_.d_w_ih);
    if (a_.d_x != nullptr) exec_.table->gemm(through_input_weights(f_.x_count, sums.get()), exec_);
  }

  void of_recurrent_weights() {
    if (a_.d_w_hh == nullptr) return;
    const int64_t hidden = s_.hidden, plain = Cell<T>::kSplitsLast ? s_.width - hidden : s_.width;
    DeviceScratch<T> h(exec_, rows_ * hidden);
    if (!h) return;
    if (rows_ > 0)
      PYDL_CUDA_LAUNCH((gather_states<T>), dim3(grid_for(rows_ * hidden)), dim3(kBlock), 0, exec_, s_, h.get());
    T* dst = static_cast<T*>(a_.d_w_hh);
    outer(rows_, plain, hidden, d_gates_, s_.width, h.get(), hidden, dst);
    if (Cell<T>::kSplitsLast) outer(rows_, hidden, hidden, d_last_, hidden, h.get(), hidden, dst + plain * hidden);
  }

  void of_biases() {
    T *d_b_ih = static_cast<T*>(a_.d_b_ih), *d_b_hh = static_cast<T*>(a_.d_b_hh);
    if (d_b_ih == nullptr && d_b_hh == nullptr) return;
    T* first = d_b_ih != nullptr ? d_b_ih : d_b_hh;
    column_sums(exec_, rows_, s_.width, d_gates_, first);
    if (d_b_hh == nullptr) return;
    copy_or_zero(exec_, s_.width, first, d_b_hh);
    if (Cell<T>::kSplitsLast) column_sums(exec_, rows_, s_.hidden, d_last_, d_b_hh + s_.width - s_.hidden);
  }

  const RecurrentBackwardArgs& a_;
  const RecurrentForwardArgs& f_;
  const SequenceView<T>& s_;
  const T *d_gates_, *d_last_;
  Exec& exec_;
  int64_t rows_;
};

template <class T, template <class> class Cell>
void backward_typed(const RecurrentBackwardArgs& args, Exec& exec) {
  constexpr int kGates = Cell<T>::kGates;
  const RecurrentForwardArgs& f = args.forward;
  BackwardSteps<T> p{};
  p.s = view_of<T>(f, kGates);
  const int64_t states = f.batch * f.hidden_size, rows = f.steps * f.batch;
  DeviceScratch<T> d_gates(exec, rows * p.s.width), d_last(exec, Cell<T>::kSplitsLast ? rows * f.hidden_size : 0);
  DeviceScratch<T> d_h(exec, states), d_c(exec, Cell<T>::kHasCell ? states : 0);
  if (!d_gates || !d_last || !d_h || !d_c) return;
  p.d_gates = d_gates.get();
  p.d_last = d_last.get();
  p.d_h = args.d_h0 != nullptr ? static_cast<T*>(args.d_h0) : d_h.get();
  p.d_c = args.d_c0 != nullptr && Cell<T>::kHasCell ? static_cast<T*>(args.d_c0) : d_c.get();
  copy_or_zero(exec, states, args.d_h_n, p.d_h);
  if (Cell<T>::kHasCell) copy_or_zero(exec, states, args.d_c_n, p.d_c);
  if (states > 0 && f.steps > 0) {
    p.w_hh = static_cast<const T*>(f.w_hh);
    p.d_y = static_cast<const T*>(args.d_y);
    p.d_y_step = args.d_y_step;
    p.d_y_batch = args.d_y_batch;
    p.begin = args.d_h0 != nullptr ? -1 : 0;
    p.end = f.steps;
    p.plan = plan_for<T>(f, kGates, true);
    switch (p.plan.each) {
      case 1:
        launch_steps(backward_steps<T, Cell, 1>, "recurrent backward", p, false, exec);
        break;
      case 2:
        launch_steps(backward_steps<T, Cell, 2>, "recurrent backward", p, false, exec);
        break;
      default:
        launch_steps(backward_steps<T, Cell, 4>, "recurrent backward", p, false, exec);
    }
  }
  Gradients<T, Cell>(args, p.s, d_gates.get(), d_last.get(), exec).run();
}

template <template <class> class Cell>
void forward(const RecurrentForwardArgs& args, Exec& exec) noexcept {
  args.dtype == DType::float64 ? forward_typed<double, Cell>(args, exec) : forward_typed<float, Cell>(args, exec);
}
template <template <class> class Cell>
void backward(const RecurrentBackwardArgs& args, Exec& exec) noexcept {
  args.forward.dtype == DType::float64 ? backward_typed<double, Cell>(args, exec)
                                       : backward_typed<float, Cell>(args, exec);
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
