// Tensors between devices: the only place where elements move from one to another.
#include "core/device.h"

#include "ops/ops.h"

namespace pydl::ops {
namespace {

Tensor moved(const Tensor& x, Device device) {
  const Tensor dense = x.contiguous() || x.channels_last() ? x : contiguous(x);
  Tensor y = dense.channels_last() ? Tensor::empty_channels_last(x.shape(), x.dtype(), device)
                                   : Tensor::empty(x.shape(), x.dtype(), device);
  copy_across(device, y.bytes(), x.device(), dense.bytes(), static_cast<size_t>(x.count()) * item_size(x.dtype()),
              "to");
  return y;
}

[[noreturn]] void differ(const char* op, Device a, Device b) {
  throw ValueError(
      text("[", op, "] got tensors on ", a, " and on ", b, ", expected all on one device; move them with .to(device)"));
}

}  // namespace

Tensor to_device(const Tensor& x, Device device) {
  if (x.device() == device) return x;
  const bool recorded = autograd::recording({&x});
  Tensor y;
  {
    autograd::GradMode off(false);
    y = moved(x, device);
  }
  if (recorded)
    autograd::record("to", {&x}, {&y}, [from = x.device()](autograd::Node&, const Tensor* d_out, Tensor* d_in) {
      d_in[0] = to_device(d_out[0], from);
    });
  return y;
}

Tensor on_host(const Tensor& x) {
  if (x.device().is_cpu()) return x;
  autograd::GradMode off(false);
  return moved(x, Device{});
}

Device common_device(const char* op, std::initializer_list<const Tensor*> tensors) {
  const Tensor* first = nullptr;
  for (const Tensor* t : tensors) {
    if (!t->defined()) continue;
    if (!first)
      first = t;
    else if (t->device() != first->device())
      differ(op, first->device(), t->device());
  }
  return first ? first->device() : Device{};
}
Device common_device(const char* op, const std::vector<Tensor>& tensors) {
  const Tensor* first = nullptr;
  for (const Tensor& t : tensors) {
    if (!t.defined()) continue;
    if (!first)
      first = &t;
    else if (t.device() != first->device())
      differ(op, first->device(), t.device());
  }
  return first ? first->device() : Device{};
}

void meet(const char* op, Tensor& a, Tensor& b) {
  if (a.device() == b.device()) return;
  Tensor& stays = a.device().is_cpu() ? b : a;
  Tensor& moves = a.device().is_cpu() ? a : b;
  if (!moves.device().is_cpu() || moves.ndim() != 0) differ(op, a.device(), b.device());
  if (autograd::recording({&moves})) {
    moves = to_device(moves, stays.device());
    return;
  }
  const Number value = item(moves);  // as a kernel's argument: no copy that would be waited for
  moves = full({}, value, moves.dtype(), stays.device());
}

}  // namespace pydl::ops
