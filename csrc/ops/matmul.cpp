// Matrix products of any rank. Transposed and strided operands go to the kernel as they are: only strides that it
// cannot express (a broadcast batch of several axes) are copied.
#include <algorithm>

#include "ops/iteration.h"
#include "ops/ops.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

// One gemm call: y (batch, m, n), contiguous, becomes activation(alpha * a (batch, m, k) @ b (batch, k, n) + beta * y +
// bias). A batch stride of a and b may be 0.
void gemm(const Tensor& a, const Tensor& b, const Tensor& y, const Tensor& bias, Activation activation,
          double alpha = 1, double beta = 0) {
  GemmArgs args;
  args.dtype = y.dtype();
  args.batch = y.size(0);
  args.m = y.size(1);
  args.n = y.size(2);
  args.k = a.size(2);
  args.a = a.bytes();
  args.b = b.bytes();
  args.dst = y.bytes();
  args.bias = bias.defined() ? bias.bytes() : nullptr;
  args.a_batch = a.stride(0);
  args.a_row = a.stride(1);
  args.a_col = a.stride(2);
  args.b_batch = b.stride(0);
  args.b_row = b.stride(1);
  args.b_col = b.stride(2);
  args.dst_batch = y.stride(0);
  args.dst_row = y.stride(1);
  args.alpha = alpha;
  args.beta = beta;
  args.activation = static_cast<int>(activation);
  if (args.dtype == DType::bfloat16) {
    PYDL_LAUNCH(y.device(), y.count() * (args.k + 1), gemm_bf16, args);
  } else {
    PYDL_LAUNCH(y.device(), y.count() * (args.k + 1), gemm, args);
  }
}

// Whether products of this type are made in float32: a GPU's kernels take 16 bits as they are, some CPUs' bfloat16.
bool is_widened(DType dtype, Device device) {
  if (!is_half(dtype) || !device.is_cpu()) return false;
  return dtype == DType::float16 || table_for(device, "matmul").gemm_bf16 == nullptr;
}

// x (..., r, c) broadcast to batch (...) and seen as (batch, r, c); copied only where the batch axes don't step evenly.
Tensor as_batch(const Tensor& x, const Dims& batch) {
  Dims shape = batch;
  shape.push_back(x.size(-2));
  shape.push_back(x.size(-1));
  const Dims strides = broadcast_strides(x, shape);
  int64_t count = 1, step = 0;
  bool even = true;
  for (int i = batch.size() - 1; i >= 0 && even; --i) {
    if (batch[i] == 1) continue;
    if (count == 1)
      step = strides[i];
    else
      even = strides[i] == step * count;
    count *= batch[i];
  }
  count = element_count(batch);
  const int n = shape.size();
  // A size-1 axis has stride 0 here, which suits the kernel as well as any.
  if (even) return x.view({count, x.size(-2), x.size(-1)}, {step, strides[n - 2], strides[n - 1]}, x.offset());
  Tensor copy = Tensor::empty(shape, x.dtype(), x.device());
  copy_into(copy, x);
  return copy.view({count, x.size(-2), x.size(-1)}, {x.size(-2) * x.size(-1), x.size(-1), 1}, 0);
}

// The largest absolute value of integers; 0 of none.
double magnitude(const Tensor& x) {
  if (x.count() == 0) return 0;
  return std::max(std::abs(static_cast<double>(item(max(x, {}, false)).i)),
                  std::abs(static_cast<double>(item(min(x, {}, false)).i)));
}

// Exact modulo 2^64, as sums and products of integers are. On the CPU, where integers too large for float64 are rare
// enough to do without a kernel.
void integer_product(const Tensor& a, const Tensor& b, const Tensor& y) {
  const int64_t m = y.size(1), n = y.size(2), inner = a.size(2);
  const uint64_t *pa = a.data<uint64_t>(), *pb = b.data<uint64_t>();
  uint64_t* row = y.data<uint64_t>();
  const LockReleased lock(y.count() * (inner + 1));
  for (int64_t batch = 0; batch < y.size(0); ++batch)
    for (int64_t i = 0; i < m; ++i, row += n) {
      std::fill(row, row + n, 0);
      for (int64_t k = 0; k < inner; ++k) {
        const uint64_t factor = pa[batch * a.stride(0) + i * a.stride(1) + k * a.stride(2)];
        const uint64_t* src = pb + batch * b.stride(0) + k * b.stride(1);
        for (int64_t j = 0; j < n; ++j) row[j] += factor * src[j * b.stride(2)];
      }
    }
}

Tensor matmul_nd(const Tensor& a, const Tensor& b, const Dims& batch) {
  Dims shape = batch;
  shape.push_back(a.size(-2));
  shape.push_back(b.size(-1));
  Tensor y = Tensor::empty(shape, a.dtype(), a.device());
  if (y.count() == 0) return y;
  const int64_t m = a.size(-2), n = b.size(-1);
  if (y.dtype() == DType::int64) {
    constexpr double kExact = 0x1p53;  // below this float64 has every integer
    const double inner = static_cast<double>(a.size(-1));
    if (y.device().is_cpu() && static_cast<double>(y.count()) * inner >= 4096 &&
        magnitude(a) * magnitude(b) * inner < kExact)
      return cast(matmul_nd(cast(a, DType::float64), cast(b, DType::float64), batch), DType::int64);
    const Tensor a3 = as_batch(a, batch), b3 = as_batch(b, batch);
    const Tensor y3 = y.view({element_count(batch), m, n}, {m * n, n, 1}, 0);
    y.device().is_cpu() ? integer_product(a3, b3, y3) : gemm(a3, b3, y3, Tensor(), Activation::none);
    return y;
  }
  bool shared_b = true;  // one b for all of a: a single tall product
  for (int i = 0; i + 2 < b.ndim(); ++i) shared_b = shared_b && b.size(i) == 1;
  if (shared_b && a.contiguous() &&
      element_count(batch) == element_count(a.shape()) / (m * std::max<int64_t>(1, a.size(-1)))) {
    const int64_t rows = element_count(batch) * m;
    const int64_t k = a.size(-1);
    gemm(a.view({1, rows, k}, {0, k, 1}, a.offset()), b.view({1, k, n}, {0, b.stride(-2), b.stride(-1)}, b.offset()),
         y.view({1, rows, n}, {0, n, 1}, 0), Tensor(), Activation::none);
    return y;
  }
  gemm(as_batch(a, batch), as_batch(b, batch), y.view({element_count(batch), m, n}, {m * n, n, 1}, 0), Tensor(),
       Activation::none);
  return y;
}

Tensor prepared(const Tensor& x, DType dtype) { return x.dtype() == dtype ? x : cast(x, dtype); }

// (..., n) as (rows, n).
Tensor flat_rows(const Tensor& x) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < x.ndim(); ++i) rows *= x.size(i);
  return x.ndim() == 2 ? x : reshape(x, {rows, x.size(-1)});
}

Tensor transposed(const Tensor& x) { return swap_axes(x, -1, -2); }

}  // namespace

Tensor matmul(const Tensor& a0, const Tensor& b0) {
  if (a0.ndim() == 0 || b0.ndim() == 0)
    throw ValueError(text("[matmul] needs at least one axis each, got ", a0.shape(), " @ ", b0.shape()));
  same_device("matmul", a0, b0);
  const DType dtype = promote("matmul", a0.dtype(), b0.dtype());
  const DType wide = !is_float(dtype) ? DType::int64 : is_widened(dtype, a0.device()) ? DType::float32 : dtype;
  if (dtype != wide) return cast(matmul(cast(a0, wide), cast(b0, wide)), dtype);
  const Tensor a1 = prepared(a0, dtype), b1 = prepared(b0, dtype);
  if (a1.size(-1) != b1.size(b1.ndim() == 1 ? 0 : -2))
    throw ValueError(text("[matmul] inner sizes differ: got ", a0.shape(), " @ ", b0.shape(),
                          ", expected (..., m, k) @ (..., k, n)"));
  if (a1.ndim() == 1) {
    const Tensor y = matmul(expand_dims(a1, 0), b1);
    return squeeze(y, {b1.ndim() == 1 ? -1 : -2}, false);
  }
  if (b1.ndim() == 1) return squeeze(matmul(a1, expand_dims(b1, 1)), {-1}, false);
  Dims batch_a, batch_b;
  for (int i = 0; i + 2 < a1.ndim(); ++i) batch_a.push_back(a1.size(i));
  for (int i = 0; i + 2 < b1.ndim(); ++i) batch_b.push_back(b1.size(i));
  Tensor y = matmul_nd(a1, b1, broadcast_shapes("matmul", batch_a, batch_b));
  if (autograd::recording({&a1, &b1}))
    autograd::record(
        "matmul", {&a1, &b1}, {&y},
        [sa = autograd::requires_grad(b1) ? Saved(a1) : Saved(),
         sb = autograd::requires_grad(a1) ? Saved(b1) : Saved()](Node& node, const Tensor* d_out, Tensor* d_in) {
          const Tensor& g = d_out[0];
          const Tensor a = sa.get(node), b = sb.get(node);
          if (node.wants(0)) d_in[0] = matmul(g, transposed(b));
          if (!node.wants(1)) return;
          if (b.defined() && b.ndim() > 2) {
            d_in[1] = matmul(transposed(a), g);
          } else if (node.edges[1].node->outputs[static_cast<size_t>(node.edges[1].output)].shape.size() == 2) {
            // One b for the whole batch: fold the batch into the inner axis instead of summing products.
            d_in[1] = matmul(transposed(flat_rows(a)), flat_rows(g));
          } else {
            d_in[1] = matmul(transposed(a), g);
          }
        });
  return y;
}

Tensor addmm(const Tensor& x, const Tensor& a, const Tensor& b, double beta, double alpha) {
  const DType dtype = a.dtype();
  if (autograd::recording({&x, &a, &b}) || !a.device().is_cpu() || b.device() != a.device() ||
      x.device() != a.device() || !is_float(dtype) || b.dtype() != dtype || x.dtype() != dtype || a.ndim() != 2 ||
      b.ndim() != 2 || a.size(1) != b.size(0))
    return {};
  const int64_t m = a.size(0), n = b.size(1), k = a.size(1);
  if (broadcast_shapes("addmm", x.shape(), {m, n}) != Dims{m, n}) return {};
  if (is_widened(dtype, a.device()))
    return cast(addmm(cast(x, DType::float32), cast(a, DType::float32), cast(b, DType::float32), beta, alpha), dtype);
  Tensor y = Tensor::empty({m, n}, dtype, a.device());
  if (y.count() == 0) return y;
  if (beta != 0) copy_into(y, broadcast_to(x, y.shape()));
  gemm(a.view({1, m, k}, {0, a.stride(0), a.stride(1)}, a.offset()),
       b.view({1, k, n}, {0, b.stride(0), b.stride(1)}, b.offset()), y.view({1, m, n}, {0, n, 1}, 0), Tensor(),
       Activation::none, alpha, beta);
  return y;
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  if (weight.ndim() != 2)
    throw ValueError(text("[linear] the weight must be (out_features, in_features), got shape ", weight.shape()));
  if (x.ndim() == 0 || x.size(-1) != weight.size(1))
    throw ValueError(text("[linear] got an input of shape ", x.shape(), ", expected (..., ", weight.size(1),
                          ") for a weight of shape ", weight.shape()));
  if (bias.defined() && bias.shape() != Dims{weight.size(0)})
    throw ValueError(text("[linear] got a bias of shape ", bias.shape(), ", expected (", weight.size(0), ",)"));
  same_device("linear", x, weight, bias);
  const DType dtype = x.dtype();
  const bool same = weight.dtype() == dtype && (!bias.defined() || bias.dtype() == dtype);
  if (same && is_widened(dtype, x.device())) {  // rounded once, with the bias
    const Tensor wide_bias = bias.defined() ? cast(bias, DType::float32) : bias;
    return cast(linear(cast(x, DType::float32), cast(weight, DType::float32), wide_bias), dtype);
  }
  if (!same || !is_float(dtype)) {
    const Tensor y = matmul(x, transposed(weight));
    return bias.defined() ? add(y, bias) : y;
  }
  const int64_t k = weight.size(1), n = weight.size(0);
  Dims shape = x.shape();
  shape[shape.size() - 1] = n;
  Tensor y = Tensor::empty(shape, dtype, x.device());
  if (y.count() > 0) {
    const Tensor flat = contiguous(autograd::requires_grad(x) ? detach(x) : x);
    const int64_t all = y.count() / n;
    gemm(flat.view({1, all, k}, {0, k, 1}, flat.offset()),
         weight.view({1, k, n}, {0, weight.stride(1), weight.stride(0)}, weight.offset()),
         y.view({1, all, n}, {0, n, 1}, 0), bias.defined() ? contiguous(detach(bias)) : Tensor(), Activation::none);
  }
  if (autograd::recording({&x, &weight, &bias}))
    autograd::record(
        "linear", {&x, &weight, &bias}, {&y},
        [sx = autograd::requires_grad(weight) ? Saved(x) : Saved(),
         sw = autograd::requires_grad(x) ? Saved(weight) : Saved()](Node& node, const Tensor* d_out, Tensor* d_in) {
          const Tensor& g = d_out[0];
          const Tensor x = sx.get(node), w = sw.get(node);
          const Tensor rows = flat_rows(g);
          if (node.wants(0)) d_in[0] = matmul(g, w);
          if (node.wants(1)) d_in[1] = matmul(transposed(rows), flat_rows(x));
          if (node.wants(2)) d_in[2] = sum(rows, {0}, false);
        });
  return y;
}

}  // namespace pydl::ops
