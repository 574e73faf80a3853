// Maximum and average pooling in one to three dimensions, over fixed and over adaptive windows. The kernels see windows
// as tables, axis by axis, and images channels last, or planes as images of one channel; a plan holds both.
#include "backend/registry.h"
#include "ops/channels.h"
#include "ops/iteration.h"
#include "ops/lanes.h"

namespace pydl::ops {
namespace {

using autograd::Node;
using autograd::Saved;

struct Plan {
  PoolArgs args{};  // its tables are in `tables`
  Tensor tables;
  Dims in_shape, out_shape;  // (N, C, ...)
  DType dtype = DType::float32;
  Device device;
  bool planes = false;  // the images lie, and stay, plane by plane: N * C images of one channel for the kernels

  Tensor laid(const Tensor& t) const { return planes ? contiguous(t) : channels_last(t); }
  Tensor empty(const Dims& shape, DType type) const {
    return planes ? Tensor::empty(shape, type, device) : Tensor::empty_channels_last(shape, type, device);
  }
};

// Where the window of each output begins and how far it reaches, before it is cut off at the image's ends.
struct Window {
  int64_t begin, end, divisor;
};

std::string name_of(const char* op, int rank) { return text(op, rank, "d"); }

void check_input(const std::string& op, const Tensor& x, int rank) {
  require_floating(op.c_str(), x.dtype());
  bool fits = x.ndim() == rank + 2;
  for (int d = 1; fits && d < x.ndim(); ++d) fits = x.size(d) > 0;
  if (!fits)
    throw ValueError(text("[", op, "] got an input of shape ", x.shape(), ", expected (N, C, ", rank,
                          rank == 1 ? " axis" : " axes", ") or the same without N, none of C and the axes empty"));
}

// Fewer channels leave vectors across them half empty.
constexpr int64_t kFewChannels = 8;

// Rows that are worth vectors along them: of as few channels as fill half a vector, of more whose windows are apart, of
// others, of images of one row.
constexpr int64_t kLeastFewWidth = 32, kLeastApartWidth = 40, kLeastOverlapWidth = 96, kLeastLineWidth = 192;

// Whether images that lie plane by plane are left so, instead of turned to channels last and back. Measured; windows
// of 6 to 19 places of a single row are too many to be gone through one by one and too wide to be joined everywhere,
// and the gradient of what lies in planes goes element by element.
bool stays_in_planes(const Tensor& x, const PoolArgs& args, bool average, bool recorded) {
  const int64_t width = args.in[2], outputs = args.out[2];
  if (!x.device().is_cpu() || !x.contiguous() || args.step[2] != 1) return false;
  // What is largest does not depend on the way, as sums do, so it may depend on being recorded.
  if (x.dtype() == DType::float64) return !average && recorded && args.channels < kFewChannels / 2;
  const bool line = args.window[0] * args.window[1] == 1;
  if (line && 6 * outputs <= width && width < 20 * outputs) return false;
  if (args.channels < kFewChannels) return true;
  int64_t seen = 0;
  for (int64_t o = 0; o < outputs; ++o) seen += args.end[2][o] - args.begin[2][o];
  if (seen > 5 * width) return false;
  if (args.channels == kFewChannels) return width >= kLeastFewWidth;
  if (average) return width >= (line ? 2 * kLeastLineWidth : kLeastOverlapWidth);
  if (line) return !recorded && width >= kLeastLineWidth;
  return width >= (4 * seen <= 5 * width && !recorded ? kLeastApartWidth : kLeastOverlapWidth);
}

// windows(axis) gives a function of outputs 0 ... out[axis] - 1; ascending in begin and end.
template <class F>
Plan make_plan(const std::string& op, const Tensor& x, const Dims& out, const Dims& step, bool average, F windows) {
  Plan plan;
  PoolArgs& args = plan.args;
  const int rank = out.size(), skipped = 3 - rank;
  plan.dtype = args.dtype = x.dtype();
  plan.device = x.device();
  args.batch = x.size(0);
  args.channels = x.size(1);
  plan.in_shape = x.shape();
  plan.out_shape = {x.size(0), x.size(1)};
  const bool recorded = autograd::recording({&x});  // then the gradient wants to know which outputs see a place
  int64_t total = 0;
  for (int a = 0; a < 3; ++a) {
    args.in[a] = a < skipped ? 1 : x.size(2 + a - skipped);
    args.out[a] = a < skipped ? 1 : out[a - skipped];
    args.step[a] = a < skipped ? 1 : step[a - skipped];
    if (a >= skipped) plan.out_shape.push_back(args.out[a]);
    total += 3 * args.out[a] + (recorded ? 2 * args.in[a] : 0);
  }
  plan.tables = Tensor::empty({total}, DType::int64, Device{});
  int64_t* table = plan.tables.data<int64_t>();
  for (int a = 0; a < 3; ++a) {
    const int64_t n = args.out[a], in = args.in[a], between = args.step[a];
    int64_t *begin = table, *end = begin + n, *divisor = end + n;
    table = divisor + n;
    args.begin[a] = begin;
    args.end[a] = end;
    args.divisor[a] = divisor;
    int64_t *cover_begin = table, *cover_end = cover_begin + in;
    if (recorded) {
      args.cover_begin[a] = cover_begin;
      args.cover_end[a] = cover_end;
      table = cover_end + in;
    }
    const auto fill = [&](auto window) {
      int64_t most = 1, place = 0, opened = 0;  // most places from one end of a window to the other
      for (int64_t o = 0; o < n; ++o) {
        const Window w = window(o);
        begin[o] = w.begin >= 0 ? w.begin : w.begin + (-w.begin + between - 1) / between * between;
        end[o] = w.end < in ? w.end : in;
        divisor[o] = w.divisor;
        if (w.end - w.begin > most) most = w.end - w.begin;
        if (begin[o] >= end[o])
          throw ValueError(text("[", op, "] got an input of shape ", x.shape(),
                                " and a window of padding alone along axis ", 2 + a - skipped,
                                "; use a smaller padding or dilation"));
        for (; recorded && opened < in && opened < w.begin; ++opened) cover_end[opened] = o;
        for (; recorded && place < in && place < w.end; ++place) cover_begin[place] = o;
      }
      args.window[a] = ceil_div(most, between);
      for (; recorded && opened < in; ++opened) cover_end[opened] = n;
      for (; recorded && place < in; ++place) cover_begin[place] = n;
    };
    if (a < skipped)
      fill([](int64_t) { return Window{0, 1, 1}; });
    else
      fill(windows(a - skipped));
  }
  plan.planes = stays_in_planes(x, args, average, recorded);
  if (plan.planes) {
    args.batch *= args.channels;
    args.channels = 1;
  }
  return plan;
}

struct Fixed {
  Dims kernel, stride, padding, dilation;
};

Dims for_rank(const std::string& op, const char* what, const Dims& given, int rank, int64_t least) {
  if (given.size() != 1 && given.size() != rank)
    throw ValueError(text("[", op, "] got ", given.size(), " numbers for ", what, ", expected 1 or ", rank));
  Dims out;
  for (int i = 0; i < rank; ++i) out.push_back(given[given.size() == 1 ? 0 : i]);
  for (int64_t v : out)
    if (v < least) throw ValueError(text("[", op, "] got ", what, " ", given, ", expected at least ", least));
  return out;
}

Plan fixed_plan(const std::string& op, const Tensor& x, const PoolOptions& o, bool average) {
  const int rank = o.rank;
  check_input(op, x, rank);
  const Dims kernel = for_rank(op, "kernel_size", o.kernel_size, rank, 1);
  const Dims stride = o.stride.empty() ? kernel : for_rank(op, "stride", o.stride, rank, 1);
  const Dims padding = for_rank(op, "padding", o.padding, rank, 0);
  const Dims dilation = for_rank(op, "dilation", o.dilation, rank, 1);
  Dims out;
  for (int a = 0; a < rank; ++a) {
    const int64_t in = x.size(2 + a), reach = dilation[a] * (kernel[a] - 1) + 1;
    if (padding[a] > reach / 2)
      throw ValueError(text("[", op, "] got padding ", o.padding, " for kernel_size ", o.kernel_size,
                            ", expected at most half of what the kernel spans; use nn.functional.pad for more"));
    const int64_t room = in + 2 * padding[a] - reach;
    int64_t n = room < 0 ? (o.ceil_mode && room + stride[a] > 0 ? 1 : 0)
                         : (room + (o.ceil_mode ? stride[a] - 1 : 0)) / stride[a] + 1;
    if (o.ceil_mode && n > 0 && (n - 1) * stride[a] >= in + padding[a]) --n;
    if (n < 1)
      throw ValueError(text("[", op, "] got an input of shape ", x.shape(), ", smaller than the kernel (kernel_size ",
                            o.kernel_size, ", padding ", o.padding, ", dilation ", o.dilation, ")"));
    out.push_back(n);
  }
  return make_plan(op, x, out, dilation, average, [&](int a) {
    const int64_t in = x.size(2 + a), every = stride[a], pad = padding[a], reach = dilation[a] * (kernel[a] - 1) + 1;
    return [=, with_padding = o.count_include_pad](int64_t i) {
      const int64_t begin = i * every - pad, end = begin + reach;
      const int64_t padded = end < in + pad ? end : in + pad;
      const int64_t inside = (end < in ? end : in) - (begin > 0 ? begin : 0);
      return Window{begin, end, with_padding ? padded - begin : inside};
    };
  });
}

Plan adaptive_plan(const std::string& op, const Tensor& x, int rank, const Dims& size, bool average) {
  check_input(op, x, rank);
  if (size.size() != rank && size.size() != 1)
    throw ValueError(text("[", op, "] got output_size ", size, ", expected 1 or ", rank, " numbers"));
  Dims out, step = Dims::filled(rank, 1);
  for (int a = 0; a < rank; ++a) {
    const int64_t n = size[size.size() == 1 ? 0 : a];
    if (n < -1) throw ValueError(text("[", op, "] got output_size ", size, ", expected 0 or more, or None"));
    out.push_back(n == -1 ? x.size(2 + a) : n);
  }
  return make_plan(op, x, out, step, average, [&](int a) {
    return [in = x.size(2 + a), n = out[a]](int64_t i) {
      const int64_t begin = i * in / n, end = ((i + 1) * in + n - 1) / n;
      return Window{begin, end, end - begin};
    };
  });
}

int64_t reads(const Plan& plan) {
  const PoolArgs& a = plan.args;
  return element_count(plan.out_shape) * a.window[0] * a.window[1] * a.window[2];
}

// --- maximum

// The numbers of the places within their images, (N, C, ...) int64.
Tensor max_indices(const Plan& plan, const Tensor& places) {
  const Tensor index = plan.empty(plan.out_shape, DType::int64);
  if (index.count() == 0) return index;
  PoolArgs args = plan.args;
  args.ws_place = places.bytes();
  args.index = index.data<int64_t>();
  PYDL_LAUNCH(index.device(), index.count() * 4, max_pool_indices, args);
  return index;
}

Tensor max_gradient(const Plan& plan, const Tensor& places, const Tensor& g0) {
  if (autograd::grad_enabled()) {
    const auto flat = [](const Tensor& t) { return reshape(t, {t.size(0), t.size(1), -1}); };
    const Tensor nothing =
        zeros({plan.in_shape[0], plan.in_shape[1], plan.args.in[0] * plan.args.in[1] * plan.args.in[2]}, plan.dtype,
              plan.device);
    return reshape(scatter_add(nothing, 2, flat(max_indices(plan, places)), flat(cast(g0, plan.dtype))), plan.in_shape);
  }
  const Tensor g = plan.laid(cast(g0, plan.dtype));
  const Tensor d_x = plan.empty(plan.in_shape, plan.dtype);
  PoolArgs args = plan.args;
  args.x = d_x.bytes();
  args.y = g.bytes();
  args.ws_place = places.bytes();
  PYDL_LAUNCH(g.device(), d_x.count() * 4, max_pool_backward, args);
  return d_x;
}

std::pair<Tensor, Tensor> max_pool_planned(const char* name, const Plan& plan, const Tensor& x0, bool return_indices) {
  const Tensor x = plan.laid(x0);
  const Tensor y = plan.empty(plan.out_shape, plan.dtype);
  const bool recording = autograd::recording({&x});
  const int64_t window = plan.args.window[0] * plan.args.window[1] * plan.args.window[2];
  Tensor places;
  if (recording || return_indices)
    places = Tensor::empty({y.count()}, window <= 256 ? DType::uint8 : DType::int32, plan.device);
  if (y.count() > 0) {
    PoolArgs args = plan.args;
    args.x = x.bytes();
    args.y = y.bytes();
    args.ws_place = places.defined() ? places.bytes() : nullptr;
    PYDL_LAUNCH(x.device(), reads(plan), max_pool, args);
  }
  if (recording)
    autograd::record(name, {&x}, {&y}, [plan, places](Node&, const Tensor* d_out, Tensor* d_in) {
      d_in[0] = element_count(plan.out_shape) > 0 ? max_gradient(plan, places, d_out[0])
                                                  : zeros(plan.in_shape, plan.dtype, plan.device);
    });
  return {y, return_indices ? max_indices(plan, places) : Tensor()};
}

// --- average. Gradient and value are each other's gradients, so either can be differentiated any number of times.

Tensor average(const Plan& plan, const Tensor& x);

Tensor average_gradient(const Plan& plan, const Tensor& g0) {
  const Tensor g = plan.laid(cast(g0, plan.dtype));
  const Tensor d_x = plan.empty(plan.in_shape, plan.dtype);
  if (g.count() == 0) {
    fill_(d_x, Number::of(0.0));
  } else {
    PoolArgs args = plan.args;
    args.x = d_x.bytes();
    args.y = g.bytes();
    PYDL_LAUNCH(g.device(), d_x.count() * 4, avg_pool_backward, args);
  }
  if (autograd::recording({&g}))
    autograd::record("avg_pool_backward", {&g}, {&d_x},
                     [plan](Node&, const Tensor* d_out, Tensor* d_in) { d_in[0] = average(plan, d_out[0]); });
  return d_x;
}

Tensor average(const Plan& plan, const Tensor& x0) {
  const Tensor x = plan.laid(cast(x0, plan.dtype));
  const Tensor y = plan.empty(plan.out_shape, plan.dtype);
  if (y.count() > 0) {
    PoolArgs args = plan.args;
    args.x = x.bytes();
    args.y = y.bytes();
    PYDL_LAUNCH(x.device(), reads(plan), avg_pool, args);
  }
  if (autograd::recording({&x}))
    autograd::record("avg_pool", {&x}, {&y},
                     [plan](Node&, const Tensor* d_out, Tensor* d_in) { d_in[0] = average_gradient(plan, d_out[0]); });
  return y;
}

constexpr int64_t kWorthFolding = 4096;  // elements

// f on x with a batch axis and of one of the kernels' dtypes; the results as x was. Few channels in planes are seen as
// one image of N * C channels.
template <class F>
std::pair<Tensor, Tensor> batched(const Tensor& x0, int rank, F f) {
  const bool unbatched = x0.ndim() == rank + 1;
  const Tensor x1 = unbatched ? expand_dims(x0, 0) : x0;
  const Tensor x = is_half(x1.dtype()) ? cast(x1, DType::float32) : x1;
  const bool fold =
      x.ndim() == rank + 2 && x.contiguous() && x.size(1) < kFewChannels && x.size(0) > 1 && x.count() >= kWorthFolding;
  const auto joined = [](const Tensor& t, int64_t n, int64_t c) {
    Dims shape = t.shape();
    shape[0] = n;
    shape[1] = c;
    return reshape(t, shape);
  };
  std::pair<Tensor, Tensor> out = f(fold ? joined(x, 1, x.size(0) * x.size(1)) : x);
  if (fold) {
    out.first = joined(out.first, x.size(0), x.size(1));
    if (out.second.defined()) out.second = joined(out.second, x.size(0), x.size(1));
  }
  out.first = cast(out.first, x0.dtype());
  if (unbatched) {
    out.first = squeeze(out.first, {0}, false);
    if (out.second.defined()) out.second = squeeze(out.second, {0}, false);
  }
  return out;
}

}  // namespace

std::pair<Tensor, Tensor> max_pool(const Tensor& x, const PoolOptions& options, bool return_indices) {
  const std::string op = name_of("max_pool", options.rank);
  return batched(x, options.rank, [&](const Tensor& t) {
    return max_pool_planned("max_pool", fixed_plan(op, t, options, false), t, return_indices);
  });
}

std::pair<Tensor, Tensor> adaptive_max_pool(const Tensor& x, int rank, const Dims& size, bool return_indices) {
  const std::string op = name_of("adaptive_max_pool", rank);
  return batched(x, rank, [&](const Tensor& t) {
    return max_pool_planned("adaptive_max_pool", adaptive_plan(op, t, rank, size, false), t, return_indices);
  });
}

Tensor avg_pool(const Tensor& x, const PoolOptions& options) {
  const std::string op = name_of("avg_pool", options.rank);
  if (options.divisor_override && *options.divisor_override == 0)
    throw ValueError(text("[", op, "] got divisor_override 0, expected another number, or None"));
  return batched(x, options.rank,
                 [&](const Tensor& t) {
                   Plan plan = fixed_plan(op, t, options, true);
                   plan.args.divisor_override = static_cast<double>(options.divisor_override.value_or(0));
                   return std::make_pair(average(plan, t), Tensor());
                 })
      .first;
}

Tensor adaptive_avg_pool(const Tensor& x, int rank, const Dims& size) {
  const std::string op = name_of("adaptive_avg_pool", rank);
  const bool global = (size.size() == rank || size.size() == 1) && size == Dims::filled(size.size(), 1);
  return batched(x, rank,
                 [&](const Tensor& t) {
                   if (!global) return std::make_pair(average(adaptive_plan(op, t, rank, size, true), t), Tensor());
                   check_input(op, t, rank);  // the mean reads any layout
                   Dims axes;
                   for (int a = 2; a < t.ndim(); ++a) axes.push_back(a);
                   return std::make_pair(mean(t, axes, true), Tensor());
                 })
      .first;
}

}  // namespace pydl::ops
