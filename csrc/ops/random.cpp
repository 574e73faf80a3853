// Random tensors. Positions are reserved from a Generator here; the numbers are made by the kernels (core/philox.h).
#include <cmath>
#include <limits>

#include "backend/registry.h"
#include "core/capture.h"
#include "ops/iteration.h"
#include "ops/lanes.h"

namespace pydl::ops {
namespace {

using Kernel = void (*KernelTable::*)(const RandomArgs&, Exec&) noexcept;

// Positions for `count` draws of that many bits: see RandomArgs.
uint64_t blocks(int64_t count, int bits) {
  const int64_t each = 128 / bits;
  return static_cast<uint64_t>((count + each - 1) / each);
}

void check_shape(const char* op, const Dims& shape) {
  for (int64_t n : shape)
    if (n < 0) throw ValueError(text("[", op, "] got shape ", shape, ", expected sizes that are not negative"));
}

struct Draw {
  const char* name;
  Kernel kernel;
  double low = 0, high = 0;
  int64_t int_low = 0, int_high = 0;
};

void draw_into(const Draw& draw, const Tensor& dst, Generator& generator) {
  RandomArgs args;
  args.dtype = dst.dtype();
  args.count = dst.count();
  args.dst = dst.bytes();
  args.seed = generator.seed();
  args.position = reserve(generator, blocks(args.count, item_size(args.dtype) == 8 ? 64 : 32));
  args.low = draw.low;
  args.high = draw.high;
  args.int_low = draw.int_low;
  args.int_high = draw.int_high;
  const KernelTable& table = table_for(dst.device(), draw.name);
  if (!dst.device().is_cpu() && draw.kernel == &KernelTable::random_permutation)
    refuse_while_capturing(draw.name, "gives another order at each call");
  CapturedLaunch captured;
  captured.random(args.seed, args.position);
  launch(dst.device(), table, table.*draw.kernel, draw.name, args.count * 8, args);
}

// Half precision is drawn in float32 and rounded.
Tensor drawn(const Draw& draw, const Dims& shape, DType dtype, Device device, Generator& generator) {
  check_shape(draw.name, shape);
  require_floating(draw.name, dtype);
  const Tensor y = Tensor::empty(shape, is_half(dtype) ? DType::float32 : dtype, device);
  draw_into(draw, y, generator);
  return cast(y, dtype);
}

template <class Make>
void refill(const Draw& draw, const Tensor& dst, Generator& generator, Make make) {
  const bool tracked = autograd::grad_enabled() && autograd::requires_grad(dst);
  if (tracked || !dst.contiguous() || (dst.dtype() != DType::float32 && dst.dtype() != DType::float64)) {
    copy_(dst, make());
    return;
  }
  autograd::check_inplace(draw.name, dst, false);
  draw_into(draw, dst, generator);
  autograd::note_inplace(dst);
}

Draw uniform_draw(double low, double high) {
  if (!(low <= high) || !std::isfinite(high - low))
    throw ValueError(
        text("[uniform] got the range ", low, " to ", high, ", expected finite bounds, the low one first"));
  return {"uniform", &KernelTable::random_uniform, low, high};
}
Draw normal_draw(double mean, double std) {
  if (!(std >= 0) || !std::isfinite(mean) || !std::isfinite(std))
    throw ValueError(text("[normal] got mean ", mean, " and std ", std, ", expected finite numbers, std not negative"));
  return {"normal", &KernelTable::random_normal, mean, std};
}
Draw exponential_draw(double rate) {
  if (!(rate > 0) || !std::isfinite(rate))
    throw ValueError(text("[exponential] got the rate ", rate, ", expected a finite number greater than 0"));
  return {"exponential", &KernelTable::random_exponential, rate};
}

// The values that an integer dtype holds, as far as int64 does; floating ones hold integers up to 2^digits exactly.
std::pair<int64_t, int64_t> integer_range(DType t) {
  switch (t) {
    case DType::boolean:
      return {0, 1};
    case DType::uint8:
      return {0, 255};
    case DType::int8:
      return {-128, 127};
    case DType::uint16:
      return {0, 65535};
    case DType::int16:
      return {-32768, 32767};
    case DType::uint32:
      return {0, 4294967295};
    case DType::int32:
      return {-2147483647 - 1, 2147483647};
    case DType::uint64:
      return {0, std::numeric_limits<int64_t>::max()};
    case DType::float16:
      return {-2048, 2048};
    case DType::bfloat16:
      return {-256, 256};
    case DType::float32:
      return {-(int64_t{1} << 24), int64_t{1} << 24};
    case DType::float64:
      return {-(int64_t{1} << 53), int64_t{1} << 53};
    default:
      return {std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()};
  }
}

// All within [0, 1]; a NaN is not.
void check_probabilities(const char* op, const Tensor& p) {
  if (p.count() == 0) return;
  const double low = item(min(p, {}, false)).f, high = item(max(p, {}, false)).f;
  if (!(low >= 0 && high <= 1))
    throw ValueError(text("[", op, "] got probabilities from ", low, " to ", high, ", expected all within 0 and 1"));
}

}  // namespace

// The mask is that of (seed, position), so the gradient is the same op on the gradient.
Tensor dropout_at(const Tensor& x0, double p, uint64_t seed, uint64_t position) {
  const Tensor x = contiguous(x0);
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  DropoutArgs args;
  args.dtype = x.dtype();
  args.count = x.count();
  args.src = x.bytes();
  args.dst = y.bytes();
  args.p = p;
  args.seed = seed;
  args.position = position;
  {
    CapturedLaunch captured;
    captured.random(seed, position);
    PYDL_LAUNCH(x.device(), args.count * 4, dropout, args);
  }
  if (autograd::recording({&x}))
    autograd::record("dropout", {&x}, {&y}, [p, seed, position](autograd::Node&, const Tensor* d_out, Tensor* d_in) {
      d_in[0] = dropout_at(d_out[0], p, seed, position);
    });
  return y;
}

Tensor uniform(const Dims& shape, double low, double high, DType dtype, Device device, Generator& generator) {
  Tensor y = drawn(uniform_draw(low, high), shape, dtype, device, generator);
  if (!is_half(dtype) || low == high) return y;
  const Tensor first = scalar(Number::of(low), dtype);  // rounding may have reached high, which is excluded
  return where(less(y, scalar(Number::of(high), dtype)), y, first);
}
Tensor normal(const Dims& shape, double mean, double std, DType dtype, Device device, Generator& generator) {
  return drawn(normal_draw(mean, std), shape, dtype, device, generator);
}
Tensor exponential(const Dims& shape, double rate, DType dtype, Device device, Generator& generator) {
  return drawn(exponential_draw(rate), shape, dtype, device, generator);
}

void uniform_(const Tensor& dst, double low, double high, Generator& generator) {
  require_floating("uniform_", dst.dtype());
  refill(uniform_draw(low, high), dst, generator,
         [&] { return uniform(dst.shape(), low, high, dst.dtype(), dst.device(), generator); });
}
void normal_(const Tensor& dst, double mean, double std, Generator& generator) {
  require_floating("normal_", dst.dtype());
  refill(normal_draw(mean, std), dst, generator,
         [&] { return normal(dst.shape(), mean, std, dst.dtype(), dst.device(), generator); });
}
void exponential_(const Tensor& dst, double rate, Generator& generator) {
  require_floating("exponential_", dst.dtype());
  refill(exponential_draw(rate), dst, generator,
         [&] { return exponential(dst.shape(), rate, dst.dtype(), dst.device(), generator); });
}

Tensor randint(int64_t low, int64_t high, const Dims& shape, DType dtype, Device device, Generator& generator) {
  check_shape("randint", shape);
  if (low >= high) throw ValueError(text("[randint] got the range [", low, ", ", high, "), expected low below high"));
  const auto [least, greatest] = integer_range(dtype);
  if (low < least || high - 1 > greatest)
    throw ValueError(text("[randint] got the range [", low, ", ", high, "), expected one that ", dtype,
                          " holds: ", least, " to ", greatest, "; pass a wider dtype"));
  const Tensor y = Tensor::empty(shape, DType::int64, device);
  Draw draw{"randint", &KernelTable::random_integers};
  draw.int_low = low;
  draw.int_high = high;
  draw_into(draw, y, generator);
  return cast(y, dtype);
}

Tensor randperm(int64_t n, Device device, Generator& generator) {
  if (n < 0) throw ValueError(text("[randperm] got n = ", n, ", expected a number that is not negative"));
  const Tensor y = Tensor::empty({n}, DType::int64, device);
  draw_into({"randperm", &KernelTable::random_permutation}, y, generator);
  return y;
}

Tensor bernoulli(const Tensor& probability, Generator& generator) {
  require_floating("bernoulli", probability.dtype());
  autograd::GradMode off(false);
  const DType dtype = probability.dtype();
  const Tensor p = contiguous(is_half(dtype) ? cast(probability, DType::float32) : probability);
  if (!p.device().is_cpu()) refuse_while_capturing("bernoulli", "looks at the probabilities");
  check_probabilities("bernoulli", p);
  const Tensor y = Tensor::empty(p.shape(), p.dtype(), p.device());
  BernoulliArgs args;
  args.dtype = p.dtype();
  args.count = p.count();
  args.probability = p.bytes();
  args.p = 0;
  args.dst = y.bytes();
  args.seed = generator.seed();
  args.position = reserve(generator, blocks(args.count, 32));
  PYDL_LAUNCH(p.device(), args.count * 4, bernoulli, args);
  return cast(y, dtype);
}

Tensor multinomial(const Tensor& probabilities, int64_t samples, bool replacement, Generator& generator) {
  constexpr const char* op = "[multinomial] ";
  require_floating("multinomial", probabilities.dtype());
  autograd::GradMode off(false);
  const Tensor p = contiguous(is_half(probabilities.dtype()) ? cast(probabilities, DType::float32) : probabilities);
  if (p.ndim() != 1 && p.ndim() != 2)
    throw ValueError(
        text(op, "got probabilities of shape ", p.shape(), ", expected (categories,) or (rows, categories)"));
  const int64_t n = p.size(-1), rows = p.ndim() == 2 ? p.size(0) : 1;
  if (samples < 1) throw ValueError(text(op, "got num_samples ", samples, ", expected at least 1"));
  if (n == 0) throw ValueError(text(op, "got probabilities of shape ", p.shape(), ", expected at least one category"));
  if (!replacement && samples > n)
    throw ValueError(text(op, "got num_samples ", samples, " for ", n,
                          " categories, expected at most as many; "
                          "draw with replacement=True"));
  Dims shape = p.shape();
  shape[p.ndim() - 1] = samples;
  const Tensor y = Tensor::empty(shape, DType::int64, p.device());
  int64_t first_bad = -1;
  MultinomialArgs args;
  args.dtype = p.dtype();
  args.replacement = replacement;
  args.rows = rows;
  args.n = n;
  args.samples = samples;
  args.probability = p.bytes();
  args.dst = y.data<int64_t>();
  args.seed = generator.seed();
  args.position = generator.reserve(blocks(rows * (replacement ? samples : n), 64));
  args.first_bad = &first_bad;
  PYDL_LAUNCH(p.device(), p.count() * 4 + y.count() * 8, multinomial, args);
  if (first_bad >= 0)
    throw ValueError(text(op, "can't draw ", samples, replacement ? " with" : " without", " replacement from row ",
                          first_bad, ": expected finite probabilities that are not negative, ",
                          replacement ? 1 : samples, " or more of them above 0"));
  return y;
}

Tensor dropout(const Tensor& x, double p, Generator& generator) {
  require_floating("dropout", x.dtype());
  if (!(p >= 0 && p <= 1)) throw ValueError(text("[dropout] got p = ", p, ", expected a probability from 0 to 1"));
  if (p == 0) return x;
  if (is_half(x.dtype())) return cast(dropout(cast(x, DType::float32), p, generator), x.dtype());
  const uint64_t seed = generator.seed();
  return dropout_at(x, p, seed, reserve(generator, blocks(x.count(), 32)));
}

}  // namespace pydl::ops
