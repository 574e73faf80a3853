// dtypes: the array API's promotion, PyTorch's where the standard is silent, and conversion.
#include <atomic>
#include <cmath>
#include <cstring>

#include "core/capture.h"
#include "ops/iteration.h"
#include "ops/ops.h"

namespace pydl::ops {
namespace {

std::atomic<DType> g_default{DType::float32};

}  // namespace

DType default_dtype() { return g_default.load(std::memory_order_relaxed); }
void set_default_dtype(DType dtype) {
  if (!is_float(dtype)) throw TypeError(text("[set_default_dtype] needs a floating dtype, got ", dtype));
  g_default.store(dtype, std::memory_order_relaxed);
}

DType promote(const char* op, DType a, DType b) {
  if (a == b) return a;
  if (a > b) std::swap(a, b);
  if (a == DType::boolean) return b;
  if (is_float(b)) {
    if (!is_float(a)) return b;
    if (a == DType::float16 && b == DType::bfloat16) return DType::float32;
    return b;
  }
  if (is_signed(a) == is_signed(b)) return item_size(a) > item_size(b) ? a : b;
  const DType s = is_signed(a) ? a : b, u = is_signed(a) ? b : a;
  if (item_size(s) > item_size(u)) return s;
  switch (item_size(u)) {
    case 1:
      return DType::int16;
    case 2:
      return DType::int32;
    case 4:
      return DType::int64;
    default:
      throw TypeError(text("[", op, "] no integer dtype holds both ", a, " and ", b, "; convert one with astype"));
  }
}

DType promote(DType tensor, Number number) {
  if (number.kind == Number::floating && !is_float(tensor)) return default_dtype();
  if (number.kind == Number::integer && tensor == DType::boolean) return DType::int64;
  return tensor;
}

Tensor scalar(Number value, DType dtype) { return full({}, value, dtype, Device{}); }

Tensor cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor y = Tensor::empty_like(x, dtype);
  copy_into(y, x);
  if (is_float(dtype) && is_float(x.dtype()) && autograd::recording({&x}))
    autograd::record("astype", {&x}, {&y}, [](autograd::Node&, const Tensor* d_out, Tensor* d_in) {
      d_in[0] = d_out[0];  // the engine converts it
    });
  return y;
}

Number item(const Tensor& x) {
  if (x.count() != 1) throw ValueError(text("[item] needs exactly one element, got shape ", x.shape()));
  const DType wide = is_float(x.dtype()) ? DType::float64 : DType::int64;
  if (!x.device().is_cpu()) refuse_while_capturing("item", "needs a number of the device");
  Tensor host = on_host(x);
  if (x.dtype() != wide) {
    const Tensor converted = Tensor::empty(x.shape(), wide, Device{});
    copy_into(converted, host);
    host = converted;
  }
  if (is_float(wide)) return Number::of(*host.data<double>());
  Number n = Number::of(*host.data<int64_t>());
  if (x.dtype() == DType::boolean) n.kind = Number::boolean;
  if (x.dtype() == DType::uint64) n.f = static_cast<double>(static_cast<uint64_t>(n.i));
  return n;
}

}  // namespace pydl::ops
