// Connectionist temporal classification: the losses of the sequences of a batch. Its gradient is one kernel and is not
// differentiated again.
#include "backend/registry.h"
#include "ops/iteration.h"
#include "ops/lanes.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

struct Ctc {
  Tensor targets, target_start, target_lengths, input_lengths;  // int64
  int64_t states = 1, blank = 0;
  bool zero_infinity = false;
};

CtcArgs arguments(const Ctc& c, const Tensor& log_probs, const Tensor& losses, const Tensor& alpha) {
  CtcArgs args;
  args.dtype = log_probs.dtype();
  args.steps = log_probs.size(0);
  args.batch = log_probs.size(1);
  args.classes = log_probs.size(2);
  args.states = c.states;
  args.blank = c.blank;
  args.log_probs = log_probs.bytes();
  args.targets = c.targets.data<int64_t>();
  args.target_start = c.target_start.data<int64_t>();
  args.target_lengths = c.target_lengths.data<int64_t>();
  args.input_lengths = c.input_lengths.data<int64_t>();
  args.losses = losses.bytes();
  args.ws_alpha = alpha.defined() ? alpha.data<double>() : nullptr;
  return args;
}

Tensor lengths_of(const char* what, const Tensor& t, int64_t batch, int64_t most) {
  if (is_float(t.dtype()) || t.shape() != Dims{batch})
    throw ValueError(text("[ctc_loss] got ", what, " of shape ", t.shape(), " and dtype ", t.dtype(), ", expected ",
                          Dims{batch}, " integers, one for each sequence"));
  const Tensor lengths = contiguous(cast(on_host(t), DType::int64));
  for (int64_t n = 0; n < batch; ++n)
    if (const int64_t length = lengths.data<int64_t>()[n]; length < 0 || length > most)
      throw ValueError(text("[ctc_loss] got ", what, "[", n, "] = ", length, ", expected 0 to ", most));
  return lengths;
}

void check_labels(const Ctc& c, int64_t classes) {
  const int64_t batch = c.target_lengths.count();
  for (int64_t n = 0; n < batch; ++n)
    for (int64_t i = 0; i < c.target_lengths.data<int64_t>()[n]; ++i) {
      const int64_t label = c.targets.data<int64_t>()[c.target_start.data<int64_t>()[n] + i];
      if (label < 0 || label >= classes)
        throw IndexError(text("[ctc_loss] target ", label, " at place ", i, " of sequence ", n, " is out of range for ",
                              classes, " classes"));
    }
}

}  // namespace

Tensor ctc_loss(const Tensor& log_probs0, const Tensor& targets, const Tensor& input_lengths,
                const Tensor& target_lengths, int64_t blank, bool zero_infinity) {
  require_floating("ctc_loss", log_probs0.dtype());
  if (log_probs0.ndim() != 3)
    throw ValueError(
        text("[ctc_loss] got log_probs of shape ", log_probs0.shape(), ", expected (T, N, C): time, batch, classes"));
  if (is_half(log_probs0.dtype()))
    return cast(
        ctc_loss(cast(log_probs0, DType::float32), targets, input_lengths, target_lengths, blank, zero_infinity),
        log_probs0.dtype());
  const int64_t batch = log_probs0.size(1), classes = log_probs0.size(2);
  if (blank < 0 || blank >= classes)
    throw ValueError(text("[ctc_loss] got blank = ", blank, ", expected one of the ", classes, " classes"));
  if (is_float(targets.dtype()))
    throw TypeError(
        text("[ctc_loss] got targets of ", targets.dtype(), ", expected class indices; convert with astype"));
  const bool padded = targets.ndim() == 2;
  if (targets.ndim() != 1 && !(padded && targets.size(0) == batch))
    throw ValueError(text("[ctc_loss] got targets of shape ", targets.shape(), ", expected (", batch,
                          ", S) or all targets in one row"));
  auto c = std::make_shared<Ctc>();
  c->blank = blank;
  c->zero_infinity = zero_infinity;
  c->targets = contiguous(cast(on_host(targets), DType::int64));
  c->input_lengths = lengths_of("input_lengths", input_lengths, batch, log_probs0.size(0));
  c->target_lengths = lengths_of("target_lengths", target_lengths, batch, padded ? targets.size(1) : targets.count());
  c->target_start = Tensor::empty({batch}, DType::int64, Device{});
  int64_t total = 0;
  for (int64_t n = 0; n < batch; ++n) {
    c->target_start.data<int64_t>()[n] = padded ? n * targets.size(1) : total;
    const int64_t length = c->target_lengths.data<int64_t>()[n];
    total += length;
    c->states = std::max(c->states, 2 * length + 1);
  }
  if (!padded && total != targets.count())
    throw ValueError(text("[ctc_loss] target_lengths add up to ", total, ", but there are ", targets.count(),
                          " targets in the row"));
  check_labels(*c, classes);
  // All that was checked on the host goes, or goes back, to where the kernel reads it.
  for (Tensor* t : {&c->targets, &c->target_start, &c->target_lengths, &c->input_lengths})
    *t = to_device(*t, log_probs0.device());

  const Tensor log_probs = contiguous(log_probs0);
  const bool record = autograd::recording({&log_probs});
  const Tensor alpha =
      record ? Tensor::empty({batch, log_probs.size(0), c->states}, DType::float64, log_probs.device()) : Tensor();
  const Tensor raw = Tensor::empty({batch}, log_probs.dtype(), log_probs.device());
  PYDL_LAUNCH(log_probs.device(), batch * log_probs.size(0) * c->states * 32, ctc_loss,
              arguments(*c, log_probs, raw, alpha));
  Tensor losses = raw;
  if (zero_infinity) {
    autograd::GradMode off(false);
    losses = where(isinf(raw), scalar(Number::of(0.0), raw.dtype()), raw);
  }
  if (record)
    autograd::record(
        "ctc_loss", {&log_probs}, {&losses},
        [c, alpha, raw = detach(raw), sx = Saved(log_probs)](Node& node, const Tensor* d_out, Tensor* d_in) {
          if (autograd::grad_enabled())
            throw autograd::AutogradError(
                "[ctc_loss] has no second derivative: its gradient is one kernel, not made of ops");
          const Tensor x = sx.get(node), g = contiguous(cast(d_out[0], x.dtype()));
          d_in[0] = Tensor::empty(x.shape(), x.dtype(), x.device());
          CtcBackwardArgs args;
          args.forward = arguments(*c, x, raw, alpha);
          args.d_losses = g.bytes();
          args.zero_infinity = c->zero_infinity;
          args.d_log_probs = d_in[0].bytes();
          PYDL_LAUNCH(x.device(), x.count() * 8, ctc_loss_backward, args);
        });
  return losses;
}

}  // namespace pydl::ops
