// The functions of cuDNN that pydl calls, computed on the host with plain loops over strides. For test_cuda_dnn.py:
// what they are asked for is the convolution that was wanted, by an algorithm that may be used. Refuses what it does
// not know. The work is done in the order of the emulated stream, so that a captured graph holds it.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace {

constexpr int kBadParam = 2000, kNotSupported = 3000, kInternal = 4000, kFailed = 5000;
constexpr size_t kWorkspace = 96;
enum Refuse { kNothing, kCreate, kDescriptors, kChoice, kNoGuess, kLarge, kRun, kHungry };

struct Tensor {
  int type, axes, size[8], stride[8];
};
struct Filter {
  int type, format, axes, size[8];
};
struct Conv {
  int axes, padding[8], stride[8], dilation[8], mode, type, groups = 1, math = 0;
};
struct Guess {
  int algorithm, status;
  float time;
  size_t workspace;
  int deterministic, math, reserved[3];
};

int (*g_issue)(void (*)(void*), void*);
int (*g_may_allocate)();
int g_runs[3], g_choices, g_refuse, g_tf32;

int known(int type) { return type == 0 || type == 1 || type == 2 || type == 9; }
int wanted_math(int type) { return type == 0 && !g_tf32 ? 3 : type == 2 || type == 9 ? 1 : 0; }

// ---- elements
double half_to_double(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double size = exponent == 31 ? (fraction ? NAN : INFINITY)
                      : exponent     ? std::ldexp(1024 + fraction, exponent - 25)
                                     : std::ldexp(fraction, -24);
  return bits & 0x8000 ? -size : size;
}
uint16_t double_to_half(double x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double size = std::fabs(x);
  if (size != size) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  if (size == 0) return sign;
  int exponent;
  std::frexp(size, &exponent);
  if (exponent < -13) exponent = -13;
  const int units = static_cast<int>(std::nearbyint(std::ldexp(size, 11 - exponent)));  // carries into the exponent
  return static_cast<uint16_t>(sign | (((exponent + 13) << 10) + units));
}
double load(const void* data, int type, int64_t i) {
  if (type == 0) return static_cast<const float*>(data)[i];
  if (type == 1) return static_cast<const double*>(data)[i];
  const uint16_t bits = static_cast<const uint16_t*>(data)[i];
  if (type == 2) return half_to_double(bits);
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float x;
  std::memcpy(&x, &wide, sizeof x);
  return x;
}
void store(void* data, int type, int64_t i, double x) {
  if (type == 0) {
    static_cast<float*>(data)[i] = static_cast<float>(x);
  } else if (type == 1) {
    static_cast<double*>(data)[i] = x;
  } else if (type == 2) {
    static_cast<uint16_t*>(data)[i] = double_to_half(x);
  } else {
    const float narrow = static_cast<float>(x);
    uint32_t bits;
    std::memcpy(&bits, &narrow, sizeof bits);
    static_cast<uint16_t*>(data)[i] = static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}

// ---- a convolution's geometry
struct Problem {
  Tensor x, y;
  Filter w;
  Conv conv;
};

bool sensible(const Problem& p) {
  const int axes = p.conv.axes;
  if (p.x.axes != axes + 2 || p.y.axes != axes + 2 || p.w.axes != axes + 2 || (axes != 2 && axes != 3)) return false;
  if (!known(p.x.type) || p.y.type != p.x.type || p.w.type != p.x.type) return false;
  if (p.conv.type != (p.x.type == 1 ? 1 : 0) || p.conv.mode != 1 || p.w.format != (p.x.type == 1 ? 0 : 1)) return false;
  if (p.x.size[0] != p.y.size[0] || p.x.size[1] != p.w.size[1] * p.conv.groups || p.y.size[1] != p.w.size[0] ||
      p.w.size[0] % p.conv.groups != 0 || p.x.stride[1] != 1 || p.y.stride[1] != 1)
    return false;
  for (int i = 0; i < axes; ++i) {
    const int reach = p.conv.dilation[i] * (p.w.size[2 + i] - 1) + 1;
    if (p.y.size[2 + i] != 1 + (p.x.size[2 + i] + 2 * p.conv.padding[i] - reach) / p.conv.stride[i]) return false;
  }
  return true;
}

struct Work {
  Problem p;
  int pass;
  const void *a, *b;
  void *out, *workspace;
};

// f(x's, weight's and y's element) for every product of the convolution.
template <class F>
void each_product(const Problem& p, F f) {
  const int axes = p.conv.axes, outputs = p.w.size[0] / p.conv.groups, inputs = p.w.size[1];
  const auto offset = [&](const Tensor& t, int n, int c, const int* at) {
    int64_t sum = int64_t{n} * t.stride[0] + c;
    for (int i = 0; i < axes; ++i) sum += int64_t{at[i]} * t.stride[2 + i];
    return sum;
  };
  int taps = 1, pixels = 1;
  for (int i = 0; i < axes; ++i) taps *= p.w.size[2 + i], pixels *= p.y.size[2 + i];
  for (int n = 0; n < p.x.size[0]; ++n)
    for (int pixel = 0; pixel < pixels; ++pixel)
      for (int tap = 0; tap < taps; ++tap) {
        int at_y[3], at_x[3];
        bool inside = true;
        for (int i = axes - 1, rest = pixel, rest_tap = tap; i >= 0; --i) {
          at_y[i] = rest % p.y.size[2 + i];
          rest /= p.y.size[2 + i];
          at_x[i] = at_y[i] * p.conv.stride[i] - p.conv.padding[i] + rest_tap % p.w.size[2 + i] * p.conv.dilation[i];
          rest_tap /= p.w.size[2 + i];
          inside = inside && at_x[i] >= 0 && at_x[i] < p.x.size[2 + i];
        }
        if (!inside) continue;
        for (int o = 0; o < p.w.size[0]; ++o)
          for (int c = 0; c < inputs; ++c)
            f(offset(p.x, n, o / outputs * inputs + c, at_x),
              p.w.format ? (int64_t{o} * taps + tap) * inputs + c : (int64_t{o} * inputs + c) * taps + tap,
              offset(p.y, n, o, at_y));
      }
}

template <class F>
void each_element(const Tensor& t, F f) {
  int64_t count = 1;
  for (int i = 0; i < t.axes; ++i) count *= t.size[i];
  for (int64_t k = 0; k < count; ++k) {
    int64_t at = 0, rest = k;
    for (int i = t.axes - 1; i >= 0; --i) at += rest % t.size[i] * t.stride[i], rest /= t.size[i];
    f(at);
  }
}

void compute(void* argument) {
  const Work& w = *static_cast<Work*>(argument);
  std::memset(w.workspace, 0x77, kWorkspace);
  const Problem& p = w.p;
  int64_t most = 1;
  const Tensor& sums_of = w.pass == 0 ? p.y : p.x;
  for (int i = 0; i < sums_of.axes; ++i) most += int64_t{sums_of.size[i] - 1} * sums_of.stride[i];
  int64_t weights = 1;
  for (int i = 0; i < p.w.axes; ++i) weights *= p.w.size[i];
  double* sums = new double[static_cast<size_t>(w.pass == 2 ? weights : most)]();
  const int type = p.x.type;
  each_product(p, [&](int64_t x, int64_t k, int64_t y) {
    if (w.pass == 0) sums[y] += load(w.a, type, x) * load(w.b, type, k);
    if (w.pass == 1) sums[x] += load(w.a, type, k) * load(w.b, type, y);
    if (w.pass == 2) sums[k] += load(w.a, type, x) * load(w.b, type, y);
  });
  if (w.pass == 2)
    for (int64_t k = 0; k < weights; ++k) store(w.out, type, k, sums[k]);
  else
    each_element(sums_of, [&](int64_t at) { store(w.out, type, at, sums[at]); });
  delete[] sums;
}

int choose(const Problem& p, int pass, int wanted, int* count, Guess* guesses) {
  ++g_choices;
  if (g_refuse == kChoice) return kNotSupported;
  if (!sensible(p) || p.conv.math != wanted_math(p.x.type)) return kBadParam;
  *count = 0;
  if (g_refuse == kNoGuess) return 0;
  const auto guess = [&](int algorithm, int status, int deterministic, int math) {
    if (*count < wanted) guesses[(*count)++] = {algorithm, status, 0.1f, kWorkspace, deterministic, math, {}};
  };
  const int math = wanted_math(p.x.type);
  guess(pass == 0 ? 6 : 0, 0, 0, math);  // adds in an order of chance
  guess(pass == 0 ? 4 : 2, 0, 1, math);  // a Fourier transform
  guess(pass == 0 ? 7 : 5, 0, 1, 2);     // converts to 16 bits
  if (math == 3) guess(pass == 0 ? 7 : 5, 0, 1, 1);
  guess(pass == 0 ? 2 : 4, kNotSupported, 1, math);
  guess(1, 0, 1, math);
  return 0;
}

int workspace_of(const Problem& p, int algorithm, size_t* bytes) {
  if (!sensible(p) || algorithm != 1 || p.conv.math != wanted_math(p.x.type)) return kBadParam;
  *bytes = g_refuse == kLarge ? size_t{1} << 40 : g_refuse == kHungry ? size_t{400} << 20 : kWorkspace;
  return 0;
}

int run(const Problem& p, int pass, const void* alpha, const void* a, const void* b, int algorithm, void* workspace,
        size_t bytes, const void* beta, void* out) {
  const bool wide = p.x.type == 1;
  const double scale = wide ? *static_cast<const double*>(alpha) : *static_cast<const float*>(alpha);
  const double kept = wide ? *static_cast<const double*>(beta) : *static_cast<const float*>(beta);
  if (!sensible(p) || algorithm != 1 || p.conv.math != wanted_math(p.x.type) || bytes < kWorkspace || !workspace ||
      scale != 1 || kept != 0)
    return kBadParam;
  for (const void* pointer : {a, b, static_cast<const void*>(out)})
    if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) return kBadParam;
  if (g_refuse == kRun) return kFailed;
  ++g_runs[pass];
  return g_issue(compute, new Work{p, pass, a, b, out, workspace});  // kept: a graph may do it again
}

Tensor& tensor(void* t) { return *static_cast<Tensor*>(t); }
Filter& filter(void* f) { return *static_cast<Filter*>(f); }
Conv& conv(void* c) { return *static_cast<Conv*>(c); }

}  // namespace

extern "C" {

void fake_connect(void* issue, void* may_allocate) {
  std::memcpy(&g_issue, &issue, sizeof issue);
  std::memcpy(&g_may_allocate, &may_allocate, sizeof may_allocate);
}
int fake_runs(int pass) { return g_runs[pass]; }
int fake_choices() { return g_choices; }
void fake_refuse(int what) { g_refuse = what; }
void fake_tf32(int on) { g_tf32 = on; }

size_t cudnnGetVersion() { return 91302; }
int cudnnCreate(void** handle) {
  if (g_refuse == kCreate || !g_may_allocate()) return kInternal;
  return *handle = &g_runs, 0;
}
int cudnnSetStream(void* handle, void*) { return handle == &g_runs ? 0 : kBadParam; }

int cudnnCreateTensorDescriptor(void** t) { return *t = new Tensor{}, 0; }
int cudnnDestroyTensorDescriptor(void* t) { return delete &tensor(t), 0; }
int cudnnSetTensorNdDescriptor(void* t, int type, int axes, const int* sizes, const int* strides) {
  if (g_refuse == kDescriptors || axes < 4 || axes > 5) return kBadParam;
  tensor(t).type = type;
  tensor(t).axes = axes;
  for (int i = 0; i < axes; ++i) {
    if (sizes[i] < 1 || strides[i] < 1) return kBadParam;
    tensor(t).size[i] = sizes[i];
    tensor(t).stride[i] = strides[i];
  }
  return 0;
}
int cudnnCreateFilterDescriptor(void** f) { return *f = new Filter{}, 0; }
int cudnnDestroyFilterDescriptor(void* f) { return delete &filter(f), 0; }
int cudnnSetFilterNdDescriptor(void* f, int type, int format, int axes, const int* sizes) {
  filter(f) = {type, format, axes, {}};
  for (int i = 0; i < axes; ++i) filter(f).size[i] = sizes[i];
  return 0;
}
int cudnnCreateConvolutionDescriptor(void** c) { return *c = new Conv{}, 0; }
int cudnnDestroyConvolutionDescriptor(void* c) { return delete &conv(c), 0; }
int cudnnSetConvolutionNdDescriptor(void* c, int axes, const int* padding, const int* stride, const int* dilation,
                                    int mode, int type) {
  Conv& d = conv(c);
  d.axes = axes;
  d.mode = mode;
  d.type = type;
  for (int i = 0; i < axes; ++i) {
    d.padding[i] = padding[i];
    d.stride[i] = stride[i];
    d.dilation[i] = dilation[i];
  }
  return 0;
}
int cudnnSetConvolutionGroupCount(void* c, int groups) { return conv(c).groups = groups, 0; }
int cudnnSetConvolutionMathType(void* c, int math) { return conv(c).math = math, 0; }

int cudnnGetConvolutionForwardAlgorithm_v7(void*, void* x, void* w, void* c, void* y, int wanted, int* count,
                                           Guess* guesses) {
  return choose({tensor(x), tensor(y), filter(w), conv(c)}, 0, wanted, count, guesses);
}
int cudnnGetConvolutionBackwardDataAlgorithm_v7(void*, void* w, void* y, void* c, void* x, int wanted, int* count,
                                                Guess* guesses) {
  return choose({tensor(x), tensor(y), filter(w), conv(c)}, 1, wanted, count, guesses);
}
int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void*, void* x, void* y, void* c, void* w, int wanted, int* count,
                                                  Guess* guesses) {
  return choose({tensor(x), tensor(y), filter(w), conv(c)}, 2, wanted, count, guesses);
}

int cudnnGetConvolutionForwardWorkspaceSize(void*, void* x, void* w, void* c, void* y, int algorithm, size_t* bytes) {
  return workspace_of({tensor(x), tensor(y), filter(w), conv(c)}, algorithm, bytes);
}
int cudnnGetConvolutionBackwardDataWorkspaceSize(void*, void* w, void* y, void* c, void* x, int algorithm,
                                                 size_t* bytes) {
  return workspace_of({tensor(x), tensor(y), filter(w), conv(c)}, algorithm, bytes);
}
int cudnnGetConvolutionBackwardFilterWorkspaceSize(void*, void* x, void* y, void* c, void* w, int algorithm,
                                                   size_t* bytes) {
  return workspace_of({tensor(x), tensor(y), filter(w), conv(c)}, algorithm, bytes);
}

int cudnnConvolutionForward(void*, const void* alpha, void* x, const void* x_data, void* w, const void* w_data, void* c,
                            int algorithm, void* workspace, size_t bytes, const void* beta, void* y, void* y_data) {
  return run({tensor(x), tensor(y), filter(w), conv(c)}, 0, alpha, x_data, w_data, algorithm, workspace, bytes, beta,
             y_data);
}
int cudnnConvolutionBackwardData(void*, const void* alpha, void* w, const void* w_data, void* y, const void* y_data,
                                 void* c, int algorithm, void* workspace, size_t bytes, const void* beta, void* x,
                                 void* x_data) {
  return run({tensor(x), tensor(y), filter(w), conv(c)}, 1, alpha, w_data, y_data, algorithm, workspace, bytes, beta,
             x_data);
}
int cudnnConvolutionBackwardFilter(void*, const void* alpha, void* x, const void* x_data, void* y, const void* y_data,
                                   void* c, int algorithm, void* workspace, size_t bytes, const void* beta, void* w,
                                   void* w_data) {
  return run({tensor(x), tensor(y), filter(w), conv(c)}, 2, alpha, x_data, y_data, algorithm, workspace, bytes, beta,
             w_data);
}
}
