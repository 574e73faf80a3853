// Elementary functions of Vec<float>, Vec<double>, Scalar<float>, Scalar<double>. Each states its largest measured
// error in ULP as "float / double"; the bound holds with and without fma. A Scalar gives the bits that a lane of Vec
// would give. Not here: vec.h's own sqrt and rounding, and no activation functions beyond the building blocks at the
// end.
//
// NaN, infinities, signed zeros and denormals are as in C's Annex F; results underflow gradually. Two ideas recur:
// polynomials are minimax fits (Remez, coefficients rounded one by one) on a reduced range, and float functions that
// are not hot are computed by their double twin, two half registers at a time. No result depends on the other lanes.
#pragma once
#include "backend/cpu/vec.h"

namespace pydl {
namespace {

template <class T>
struct Format;
template <>
struct Format<float> {
  static constexpr int mantissa = 23, bias = 127;
  static constexpr double whole = 0x1.8p23;  // adding it rounds to a whole number, in the low mantissa bits
  static constexpr int32_t one = 0x3f800000, sqrt_half = 0x3f3504f3;
  static constexpr double min_normal = 0x1p-126, max = 0x1.fffffep127, denormal_scale = 0x1p24, denormal_shift = 24;
  static constexpr double ln2_hi = 0.693145751953125,
                          ln2_lo = 1.4286068203094172e-6;  // hi times a whole exponent is exact
  static constexpr double log10_2_hi = 0.301025390625, log10_2_lo = 4.6050389811952137e-6;
  static constexpr double exp_min = -104, exp_max = 89, expm1_min = -20, exp2_min = -151, exp2_max = 129;
  // pi / 2 in parts, all but the last so short that their product with a quadrant up to circular_max is exact
  static constexpr double half_pi[] = {1.5703125, 0.0004837512969970703, 7.549533620476723e-8, 2.5633440682570896e-12};
  static constexpr double circular_max = 4096;
  static constexpr double tanh_max = 10, tiny = 0x1p-25, huge = 0x1p100;
};
template <>
struct Format<double> {
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr double whole = 0x1.8p52;
  static constexpr int64_t one = 0x3ff0000000000000, sqrt_half = 0x3fe6a09e667f3bcd;
  static constexpr double min_normal = 0x1p-1022, max = 0x1.fffffffffffffp1023, denormal_scale = 0x1p54,
                          denormal_shift = 54;
  static constexpr double ln2_hi = 0.69314718056011770386, ln2_lo = -1.7239444525614834773e-13;
  static constexpr double log10_2_hi = 0.30102999566395283182, log10_2_lo = 2.8363394551044964e-14;
  static constexpr double exp_min = -746, exp_max = 710, expm1_min = -40, exp2_min = -1076, exp2_max = 1025;
  static constexpr double half_pi[] = {1.57079632673412561416626, 6.077100506303965976595549e-11,
                                       2.022266248795950732399685e-21};
  static constexpr double circular_max = 0x1p20;
  static constexpr double tanh_max = 22, tiny = 0x1p-55, huge = 0x1p1000;
};
constexpr double kLog2e = 1.4426950408889634074, kLn2 = 0.69314718055994530942, kLog10e = 0.43429448190325182765;
constexpr double kPi = 3.14159265358979311600, kPiLow = 1.2246467991473531772e-16;  // kPi + kPiLow is pi to 106 bits

template <class T>
PYDL_INLINE Vec<T> infinity() {
  return Vec<T>(__builtin_inf());
}
template <class T>
PYDL_INLINE Vec<T> nan_value() {
  return Vec<T>(__builtin_nan(""));
}

// c0 + c1 x + c2 x^2 + ..., by pairs: half the latency of Horner's scheme.
template <class T>
PYDL_INLINE Vec<T> poly_pairs(Vec<T>, Vec<T>, double c0) {
  return c0;
}
template <class T>
PYDL_INLINE Vec<T> poly_pairs(Vec<T> x, Vec<T>, double c0, double c1) {
  return fma(x, c1, c0);
}
template <class T, class... C>
PYDL_INLINE Vec<T> poly_pairs(Vec<T> x, Vec<T> x2, double c0, double c1, double c2, C... rest) {
  return fma(poly_pairs(x, x2, c2, rest...), x2, fma(x, c1, c0));
}
template <class T, class... C>
PYDL_INLINE Vec<T> poly(Vec<T> x, C... c) {
  return poly_pairs(x, x * x, c...);
}

template <class F, class... T>
inline Vec<double> by_lane(F f, Vec<double> x, Vec<T>... y) {
  for (int i = 0; i < Vec<double>::size; ++i) x.set_lane(i, f(x.lane(i), y.lane(i)...));
  return x;
}
template <class F, class... V>
PYDL_INLINE Vec<float> by_double(F f, V... x) {
  return narrow(f(widen_low(x)...), f(widen_high(x)...));
}

// ---- exponentials
// ----------------------------------------------------------------------------------------------------

// expm1(r) for |r| <= ln(2) / 2.
PYDL_INLINE Vec<float> expm1_reduced(Vec<float> r) {
  const Vec<float> q = poly(r, 0.49999997, 0.16666539, 0.0416677482, 0.00836709328, 0.00138376432);
  return fma(r * r, q, r);
}
PYDL_INLINE Vec<double> expm1_reduced(Vec<double> r) {
  const Vec<double> q = poly(r, 0.5, 0.16666666666666677, 0.041666666666666505, 0.0083333333333216533,
                             0.0013888888888962765, 0.00019841269886076673, 2.4801587171929241e-5,
                             2.7557244250976283e-6, 2.7557403028431273e-7, 2.5109025536099737e-8, 2.087525129330189e-9);
  return fma(r * r, q, r);
}

// 2^n * (1 + u), where k = n + whole + 2 * bias. In two factors, so that it under- and overflows gradually.
template <class T>
PYDL_INLINE Vec<T> scale_by_power(Vec<T> u, Vec<T> k) {
  using U = std::make_unsigned_t<LaneInt<T>>;
  const Vec<U> biased = reinterpret<U>(k);
  const Vec<U> half = biased >> 1;
  const Vec<T> s1 = reinterpret<T>(half << Format<T>::mantissa);
  const Vec<T> s2 = reinterpret<T>((biased - half) << Format<T>::mantissa);
  return fma(u, s1, s1) * s2;
}

// 2^shift * e^(x + tail), tail (none or one) small beside x; x within [exp_min, exp_max] or NaN.
template <int shift = 0, class T, class... Tail>
PYDL_INLINE Vec<T> exp_clamped(Vec<T> x, Tail... tail) {
  using F = Format<T>;
  const double whole = F::whole + 2 * F::bias;
  const Vec<T> k = fma(x, kLog2e, whole);
  const Vec<T> n = k - whole;
  const Vec<T> r = (fma(n, -F::ln2_lo, fma(n, -F::ln2_hi, x)) + ... + tail);
  if constexpr (shift == 0)
    return scale_by_power(expm1_reduced(r), k);
  else
    return scale_by_power(expm1_reduced(r), k + shift);
}

// 1.1 / 1.0 ULP
template <class T>
PYDL_INLINE Vec<T> exp(Vec<T> x) {
  return exp_clamped(max_or_b(Vec<T>(Format<T>::exp_min), min_or_b(Vec<T>(Format<T>::exp_max), x)));
}

// 1.1 / 1.1 ULP
template <class T>
PYDL_INLINE Vec<T> exp2(Vec<T> x) {
  using F = Format<T>;
  x = max_or_b(Vec<T>(F::exp2_min), min_or_b(Vec<T>(F::exp2_max), x));
  const double whole = F::whole + 2 * F::bias;
  const Vec<T> k = x + whole;
  return scale_by_power(expm1_reduced((x - (k - whole)) * kLn2), k);
}

// e^x = s + s * u for x within +-exp_max or NaN, s = 2^(n + shift) normal.
template <class T>
struct Exponential {
  Vec<T> s, u;

  PYDL_INLINE explicit Exponential(Vec<T> x, int shift = 0) {
    using F = Format<T>;
    const double whole = F::whole + F::bias;
    const Vec<T> k = fma(x, kLog2e, whole);
    const Vec<T> n = k - whole;
    u = expm1_reduced(fma(n, -F::ln2_lo, fma(n, -F::ln2_hi, x)));
    s = reinterpret<T>((reinterpret<LaneInt<T>>(k) + shift) << F::mantissa);
  }
  PYDL_INLINE Vec<T> expm1() const { return fma(s, u, s - 1.0); }
};

// 1.7 / 1.9 ULP
template <class T>
PYDL_INLINE Vec<T> expm1(Vec<T> x) {
  using F = Format<T>;
  // half of it, as 2^n alone may overflow
  const Exponential<T> e(max_or_b(Vec<T>(F::expm1_min), min_or_b(Vec<T>(F::exp_max), x)), -1);
  return select(abs(x) < F::tiny, x, fma(e.s, e.u, e.s - 0.5) * 2.0);
}

// ---- logarithms
// ------------------------------------------------------------------------------------------------------

// f - log(1 + f) for 1 + f within [sqrt(1/2), sqrt(2)], from the series of atanh(s), s = f / (2 + f).
PYDL_INLINE Vec<float> log_series(Vec<float> z) {
  return z * poly(z, 0.666666627, 0.400009722, 0.284988046, 0.242783025);
}
PYDL_INLINE Vec<double> log_series(Vec<double> z) {
  return z * poly(z, 0.6666666666666734, 0.39999999999413804, 0.28571428742597105, 0.22222198550244404,
                  0.18183565590793552, 0.15314016413282794, 0.1479630839836744);
}
template <class T>
PYDL_INLINE Vec<T> log_tail(Vec<T> f) {
  const Vec<T> s = f / (f + 2.0);
  const Vec<T> half_square = f * f * 0.5;
  return half_square - s * (half_square + log_series(s * s));
}

// x = 2^e * (1 + f) with 1 + f within [sqrt(1/2), sqrt(2)); x positive, normal and finite.
template <class T>
struct Exponent {
  Vec<T> e, f;
  Vec<LaneInt<T>> biased;  // e + bias

  PYDL_INLINE explicit Exponent(Vec<T> x) {
    using F = Format<T>;
    using I = LaneInt<T>;
    using U = std::make_unsigned_t<I>;  // which wraps around: a NaN's bits may be the largest there are
    const Vec<U> bits = reinterpret<U>(x);
    const Vec<U> exponent = (bits + static_cast<U>(F::one - F::sqrt_half)) >> F::mantissa;
    biased = reinterpret<I>(exponent);
    f = reinterpret<T>(bits - (exponent << F::mantissa) + static_cast<U>(F::one)) - 1.0;
    constexpr double two_to_mantissa = static_cast<double>(int64_t{1} << F::mantissa);
    e = reinterpret<T>(biased | reinterpret<I>(Vec<T>(two_to_mantissa))) - (two_to_mantissa + F::bias);
  }
};

// logarithm(e, f) of x = 2^e * (1 + f), and what every logarithm gives at the edges of its domain.
template <class T, class L>
PYDL_INLINE Vec<T> log_of(Vec<T> x, L logarithm) {
  using F = Format<T>;
  const bool ordinary = all((x >= F::min_normal) & (x <= F::max));
  Vec<T> scaled = x, shift = 0.0;
  if (__builtin_expect(!ordinary, false)) {
    const Mask<T> denormal = x < F::min_normal;
    scaled = select(denormal, x * F::denormal_scale, x);
    shift = select(denormal, Vec<T>(F::denormal_shift), shift);
  }
  const Exponent<T> p(scaled);
  const Vec<T> y = logarithm(p.e - shift, p.f);
  if (__builtin_expect(ordinary, true)) return y;
  const Vec<T> at_edges = select(x == 0.0, -infinity<T>(), select(x < 0.0, nan_value<T>(), x));
  return select((x > 0.0) & (x <= F::max), y, at_edges);
}

template <class T>
PYDL_INLINE Vec<T> log_finish(Vec<T> e, Vec<T> f) {
  return fma(e, Format<T>::ln2_hi, f - fma(e, -Format<T>::ln2_lo, log_tail(f)));
}

// 0.9 / 0.9 ULP
template <class T>
PYDL_INLINE Vec<T> log(Vec<T> x) {
  return log_of(
      x, [](Vec<T> e, Vec<T> f) __attribute__((always_inline)) { return log_finish(e, f); });
}

// 1.4 / 1.4 ULP
template <class T>
PYDL_INLINE Vec<T> log2(Vec<T> x) {
  return log_of(
      x, [](Vec<T> e, Vec<T> f) __attribute__((always_inline)) {
        const Vec<T> tail = log_tail(f);
        return e + (f + fma(f - tail, kLog2e - 1.0, -tail));
      });
}

// 2.0 / 1.8 ULP
template <class T>
PYDL_INLINE Vec<T> log10(Vec<T> x) {
  return log_of(
      x, [](Vec<T> e, Vec<T> f) __attribute__((always_inline)) {
        const Vec<T> y = f - log_tail(f);
        const double high = static_cast<double>(static_cast<T>(kLog10e));
        return fma(e, Format<T>::log10_2_hi, fma(y, high, fma(y, kLog10e - high, e * Format<T>::log10_2_lo)));
      });
}

// 1.5 / 1.5 ULP
template <class T>
PYDL_INLINE Vec<T> log1p(Vec<T> x) {
  using F = Format<T>;
  const Exponent<T> p(x + 1.0);
  // x * 2^-e + (2^-e - 1) keeps the bits of x that 1 + x has lost.
  const Vec<T> s = reinterpret<T>((Vec<LaneInt<T>>(2 * F::bias) - p.biased) << F::mantissa);
  const Vec<T> y = copysign(log_finish(p.e, fma(x, s, s - 1.0)), x);
  const Mask<T> ordinary = (x > -1.0) & (x < F::huge);
  if (__builtin_expect(all(ordinary), true)) return y;
  const Vec<T> at_edges =
      select(x >= F::huge, log(max_or_b(Vec<T>(1.0), x)), select(x == -1.0, -infinity<T>(), nan_value<T>()));
  return select(ordinary, y, at_edges);
}

// ---- hyperbolic functions ------------------------------------------------------------------------------------------

// 2.6 / 2.4 ULP
template <class T>
PYDL_INLINE Vec<T> tanh(Vec<T> x) {
  const Vec<T> m = Exponential<T>(min_or_b(Vec<T>(Format<T>::tanh_max), abs(x)) * 2.0).expm1();
  return copysign(m / (m + 2.0), x);
}

// e^|x| / 2, which overflows where sinh and cosh do.
PYDL_INLINE Vec<double> half_exp(Vec<double> x) { return exp_clamped<-1>(min_or_b(Vec<double>(712.0), abs(x))); }

// 0.51 / 2.3 ULP
inline Vec<double> sinh(Vec<double> x) {
  const Vec<double> a = abs(x);
  const Vec<double> h = half_exp(x);
  const Vec<double> m = Exponential<double>(min_or_b(Vec<double>(1.0), a)).expm1();
  return copysign(select(a < 1.0, 0.5 * (m + m / (m + 1.0)), h - 0.25 / h), x);
}

// 0.51 / 1.5 ULP
inline Vec<double> cosh(Vec<double> x) {
  const Vec<double> h = half_exp(x);
  return h + 0.25 / h;
}

// 0.51 / 1.8 ULP
inline Vec<double> asinh(Vec<double> x) {
  const Vec<double> a = abs(x), b = min_or_b(Vec<double>(0x1p30), a);
  const Vec<double> y = log1p(b + b * b / (1.0 + sqrt(fma(b, b, 1.0))));
  return copysign(select(a > 0x1p30, log(a) + kLn2, y), x);
}

// 0.51 / 2.0 ULP
inline Vec<double> acosh(Vec<double> x) {
  const Vec<double> t = max_or_b(Vec<double>(-1.0), min_or_b(Vec<double>(0x1p30), x) - 1.0);  // -1: sqrt gives NaN
  return select(x > 0x1p30, log(x) + kLn2, log1p(t + sqrt(t * (t + 2.0))));
}

// 0.51 / 2.0 ULP
inline Vec<double> atanh(Vec<double> x) {
  const Vec<double> a = abs(x);
  return copysign(0.5 * log1p(2.0 * a / (1.0 - a)), x);
}

// ---- error function
// --------------------------------------------------------------------------------------------------

// erf of x >= 0 or NaN: an odd polynomial up to 1, beyond it 1 - erfc(x), where erfc(x)^(-1/8) is nearly a polynomial.
PYDL_INLINE Vec<float> erf_nonnegative(Vec<float> x) {
  const Vec<float> z = x * x;
  const Vec<float> near = fma(
      x, poly(z, 0.128379166, -0.37612626, 0.112835787, -0.0268533491, 0.00518717151, -0.000799799222, 7.80755217e-5),
      x);
  Vec<float> p = poly(x, 0.996486425, 0.159214109, 0.049408108, 0.0737482086, -0.0330401696, 0.0177547615,
                      -0.00400310848, 0.000543760019);
  p *= p;
  p *= p;
  p *= p;
  return select(x < 1.0, near, 1.0 - 1.0 / p);
}

// erfc of x >= 0 or NaN: (1 + 2 x) e^(x^2) erfc(x) is a polynomial in (x - 4) / (x + 4).
PYDL_INLINE Vec<double> erfc_nonnegative(Vec<double> x) {
  x = min_or_b(Vec<double>(28.0), x);
  const Vec<double> y =
      poly((x - 4.0) / (x + 4.0), 1.2329951186255526, -0.13962111684056289, 0.015379652102619766, 0.068097054254736597,
           -0.10103906603630119, 0.09373283499682393, -0.066330365812563089, 0.037167515561852688,
           -0.016197734048431185, 0.0050319697635582911, -0.00075777340483192547, -0.00019925556118218404,
           0.00015062247150501241, -2.4402941799073527e-5, -1.1225282995751734e-5, 5.7172958219882336e-6,
           3.0195651454272836e-7, -8.3424101511808234e-7, 6.2388836746236031e-8, 1.1456161097585736e-7,
           -7.7787024554125786e-9, -1.3386300047752086e-8, -1.7176577945540523e-9);
  // x^2 = high^2 + tail, high^2 exact
  const Vec<double> high = reinterpret<double>((reinterpret<int64_t>(x) >> 27) << 27);
  const Vec<double> tail = (x - high) * (x + high);
  return exp_clamped(-(high * high), -tail) * (y / fma(x, 2.0, 1.0));
}

// erf of x within [0, 1].
PYDL_INLINE Vec<double> erf_near(Vec<double> x) {
  return fma(x,
             poly(x * x, 0.1283791670955126, -0.37612638903183521, 0.112837916709442, -0.026866170643113415,
                  0.005223977606130842, -0.00085483259297662443, 0.0001205529358693695, -1.4924712439534808e-5,
                  1.6447132699786545e-6, -1.6206318752968687e-7, 1.3710988704188445e-8, -7.7794629717580019e-10),
             x);
}

inline Vec<double> erf_nonnegative(Vec<double> x) {
  return select(x < 1.0, erf_near(min_or_b(Vec<double>(1.0), x)), 1.0 - erfc_nonnegative(x));
}

// 3.0 / 1.2 ULP
template <class T>
PYDL_INLINE Vec<T> erf(Vec<T> x) {
  return copysign(erf_nonnegative(abs(x)), x);
}

// 0.51 / 4.0 ULP
inline Vec<double> erfc(Vec<double> x) {
  const Vec<double> a = abs(x);
  const Vec<double> y = select(a < 0.6, 1.0 - erf_near(min_or_b(Vec<double>(1.0), a)), erfc_nonnegative(a));
  return select(x < 0.0, 2.0 - y, y);
}

// erfinv(x) away from its ends: x times a polynomial in w = -log(1 - x^2) up to 5, in sqrt(w) beyond it.
template <class T, class... Tail>
PYDL_INLINE Vec<T> erfinv_start(Vec<T> x, double middle, double scale, Tail... tail) {
  const Vec<T> a = abs(x), w = -log((1.0 - a) * (1.0 + a));
  const Vec<T> near = poly((w - 2.5) * 0.4, 1.501409377, 0.6166009501, -0.02610928225, -0.0195774949, 0.008532263841,
                           -0.0004717540394, -0.000850591307, 0.0002665895167, 3.809010081e-05, -2.533592359e-05);
  return x * select(w < 5.0, near, poly((sqrt(w) - middle) * scale, tail...));
}
template <class T>
PYDL_INLINE Vec<T> erfinv_ends(Vec<T> x, Vec<T> y) {
  return select(abs(x) == 1.0, copysign(infinity<T>(), x), y);
}

// 4.0 / 4.0 ULP
inline Vec<float> erfinv(Vec<float> x) {
  return erfinv_ends(
      x, erfinv_start(x, 3.1430339887, 1.10257715, 2.976423357, 0.910563045, 0.005571465457, -0.003734043848,
                      0.002393965608, -0.001547926695, 0.0007313669967, -5.691066979e-05, -8.30859938e-05));
}
inline Vec<double> erfinv(Vec<double> x) {
  const Vec<double> a = abs(x);
  Vec<double> y = erfinv_start(a, 4.1430339887, 0.5243931953, 3.984199873, 1.925699518, 0.003332192306, -0.005483314164,
                               0.003483950379, 0.0003752942161, 0.0008613346615, -0.005297854391, 0.003227150724);
  // Halley's step; erfc near the end, where 1 - a is exact.
  const Vec<double> error = select(a > 0.7, 1.0 - a - erfc_nonnegative(y), erf_near(min_or_b(Vec<double>(1.0), y)) - a);
  const Vec<double> u = error * exp(y * y) * 0.88622692545275801;
  y -= u / (1.0 + y * u);
  return erfinv_ends(x, copysign(y, x));
}

// ---- circular functions
// ----------------------------------------------------------------------------------------------

// sin(r) and cos(r) for |r| <= pi / 4, z = r * r
PYDL_INLINE Vec<float> sin_reduced(Vec<float> r, Vec<float> z) {
  return fma(r * z, poly(z, -0.16666655242443085, 0.008332173340022564, -0.00019516654720064253), r);
}
PYDL_INLINE Vec<double> sin_reduced(Vec<double> r, Vec<double> z) {
  return fma(r * z,
             poly(z, -0.16666666666666666, 0.0083333333333333228, -0.00019841269841254733, 2.7557319214029783e-6,
                  -2.505210487240233e-8, 1.605836192161394e-10, -7.578476785938223e-13),
             r);
}
PYDL_INLINE Vec<float> cos_reduced(Vec<float> z) {
  return fma(z * z, poly(z, 0.04166664555668831, -0.0013887309469282627, 2.443241282890085e-5), fma(z, -0.5, 1.0));
}
PYDL_INLINE Vec<double> cos_reduced(Vec<double> z) {
  return fma(z * z,
             poly(z, 0.041666666666666595, -0.001388888888887298, 2.4801587288801583e-5, -2.7557314164084881e-7,
                  2.0875698687006818e-9, -1.1358420937871621e-11),
             fma(z, -0.5, 1.0));
}

// sin and cos of r, where x = r + quadrant * pi / 2 and |r| <= pi / 4, for |x| <= Format::circular_max.
template <class T>
struct Circular {
  using I = LaneInt<T>;
  Vec<T> sin, cos;
  Vec<I> quadrant;  // modulo 4

  PYDL_INLINE explicit Circular(Vec<T> x) {
    const Vec<T> k = fma(x, 2.0 / kPi, Format<T>::whole);
    const Vec<T> n = k - Format<T>::whole;
    quadrant = reinterpret<I>(k);
    Vec<T> r = x;
    for (const double part : Format<T>::half_pi) r = fma(n, -part, r);
    const Vec<T> z = r * r;
    sin = sin_reduced(r, z);
    cos = cos_reduced(z);
  }
  PYDL_INLINE Mask<T> odd() const { return (quadrant & 1) != 0; }
  // sin(r + q * pi / 2), q = quadrant + add
  PYDL_INLINE Vec<T> wave(int add) const {
    const Vec<I> q = quadrant + add;
    const Vec<T> y = select(Mask<T>((q & 1) != 0), cos, sin);
    return reinterpret<T>(reinterpret<I>(y) ^ ((q & 2) << (sizeof(T) * 8 - 2)));
  }
};

// 1.7 / 1.8 ULP; beyond +-2^20 by libm, lane by lane
inline Vec<double> sin(Vec<double> x) {
  Vec<double> y = select(x == 0.0, x, Circular<double>(x).wave(0));
  const Mask<double> ordinary = abs(x) <= Format<double>::circular_max;
  if (__builtin_expect(!all(ordinary), false)) {
    y = select(ordinary, y, by_lane([](double v) { return __builtin_sin(v); }, x));
  }
  return y;
}

// 1.7 / 1.8 ULP; beyond +-2^20 by libm, lane by lane
inline Vec<double> cos(Vec<double> x) {
  Vec<double> y = Circular<double>(x).wave(1);
  const Mask<double> ordinary = abs(x) <= Format<double>::circular_max;
  if (__builtin_expect(!all(ordinary), false)) {
    y = select(ordinary, y, by_lane([](double v) { return __builtin_cos(v); }, x));
  }
  return y;
}

// 0.51 / 3.5 ULP; beyond +-2^20 by libm, lane by lane
inline Vec<double> tan(Vec<double> x) {
  const Circular<double> c(x);
  Vec<double> y = select(x == 0.0, x, select(c.odd(), -c.cos, c.sin) / select(c.odd(), c.sin, c.cos));
  const Mask<double> ordinary = abs(x) <= Format<double>::circular_max;
  if (__builtin_expect(!all(ordinary), false)) {
    y = select(ordinary, y, by_lane([](double v) { return __builtin_tan(v); }, x));
  }
  return y;
}

// atan(y / x) for x, y >= 0 or NaN; 0 / 0 counts as 0, infinity / infinity as 1.
PYDL_INLINE Vec<double> atan_ratio(Vec<double> y, Vec<double> x) {
  const Mask<double> swap = y > x;
  Vec<double> num = select(swap, x, y), den = select(swap, y, x);
  const Vec<double> scale = select(den > 0x1p1000, Vec<double>(0x1p-100), Vec<double>(1.0));  // num + den is finite
  const Mask<double> infinite = (num == infinity<double>()) & (den == infinity<double>());
  num = select(infinite, Vec<double>(1.0), num * scale);
  den = select(infinite | (den == 0.0), Vec<double>(1.0), den * scale);
  const Mask<double> steep = num > 0.41421356237309504880 * den;
  const Vec<double> t = select(steep, num - den, num) / select(steep, num + den, den);
  const Vec<double> z = t * t;
  const Vec<double> a =
      fma(t * z,
          poly(z, -0.33333333333333198, 0.19999999999953155, -0.14285714280157111, 0.11111110781672569,
               -0.090908977110737879, 0.076920594596619457, -0.066630962099440944, 0.058478370275853078,
               -0.050390881339051438, 0.038059489632203243, -0.017902082174740225),
          t);
  const Vec<double> b = select(steep, (a + kPiLow / 4) + kPi / 4, a);
  return select(swap, kPi / 2 - (b - kPiLow / 2), b);
}

// 0.51 / 2.3 ULP
inline Vec<double> atan2(Vec<double> y, Vec<double> x) {
  const Vec<double> a = atan_ratio(abs(y), abs(x));
  return copysign(select(copysign(Vec<double>(1.0), x) < 0.0, kPi - (a - kPiLow), a), y);
}
// 0.51 / 2.3 ULP
inline Vec<double> atan(Vec<double> x) { return copysign(atan_ratio(abs(x), 1.0), x); }
// 0.51 / 3.0 ULP
inline Vec<double> asin(Vec<double> x) {
  const Vec<double> a = abs(x);
  return copysign(atan_ratio(a, sqrt((1.0 - a) * (1.0 + a))), x);
}
// 0.51 / 3.0 ULP
inline Vec<double> acos(Vec<double> x) { return 2.0 * atan_ratio(sqrt(1.0 - x), sqrt(1.0 + x)); }

// ---- powers
// ----------------------------------------------------------------------------------------------------------

// 0.51 / libm's (1 ULP), lane by lane
inline Vec<double> pow(Vec<double> x, Vec<double> y) {
  return by_lane([](double a, double b) { return __builtin_pow(a, b); }, x, y);
}

// One half register of pow for float: 2^(y log2 |x|), whose errors of 2^-34 are lost in float's 24 bits. |x| is normal
// in float64, or 0, infinite or NaN.
inline Vec<double> pow_for_float(Vec<double> x, Vec<double> y) {
  const Vec<double> inf = infinity<double>(), a = abs(x);
  const bool ordinary = all((x > 0.0) & (x < inf) & (abs(y) < inf));
  const Exponent<double> p(a);
  const Vec<double> s = p.f / (p.f + 2.0);
  const Vec<double> log = fma(
      s,
      poly(s * s, 2.8853900817900784, 0.9617966733497851, 0.5770835833254244, 0.41167282307728265, 0.34072808621661727),
      p.e);
  Vec<double> t = y * log;
  if (__builtin_expect(!ordinary, false)) {
    const Vec<double> at_edges = select(a == 0.0, -inf, select(a < inf, log, a));
    t = select((a == 1.0) & (abs(y) == inf), Vec<double>(0.0), y * at_edges);
  }
  t = max_or_b(Vec<double>(-300.0), min_or_b(Vec<double>(300.0), t));
  const Vec<double> k = t + Format<double>::whole, r = t - (k - Format<double>::whole);
  const Vec<double> power =
      poly(r, 0.9999999999616809, 0.693147180728449, 0.24022651198155726, 0.055504103534372906, 0.00961802725393566,
           0.0013333922574218793, 0.0001546929105442203, 1.5201918657308541e-05);
  Vec<double> z = reinterpret<double>(reinterpret<int64_t>(power) + (reinterpret<int64_t>(k) << 52));
  if (__builtin_expect(ordinary, true)) return z;
  z = select(isnan(t), t, z);
  const Vec<double> half = y * 0.5;
  const Mask<double> whole = y == trunc(y), odd = whole & (half != trunc(half));
  const Mask<double> negative = copysign(Vec<double>(1.0), x) < 0.0;
  z = select(negative & odd, -z, z);
  z = select((x < 0.0) & (a < inf) & !whole & !isnan(y), nan_value<double>(), z);
  return select((y == 0.0) | (x == 1.0), Vec<double>(1.0), z);
}

// 0.51 / 1.2 ULP
inline Vec<double> hypot(Vec<double> x, Vec<double> y) {
  const Vec<double> a = abs(x), b = abs(y), m = max(a, b), one = 1.0, inf = infinity<double>();
  const Vec<double> scale = select(m > 0x1p500, Vec<double>(0x1p-600), select(m < 0x1p-400, Vec<double>(0x1p600), one));
  const Vec<double> p = a * scale, q = b * scale;
  return select((a == inf) | (b == inf), inf, sqrt(fma(p, p, q * q)) / scale);
}

// 1.5 / 1.5 ULP
template <class T>
PYDL_INLINE Vec<T> rsqrt(Vec<T> x) {
  return 1.0 / sqrt(x);
}

// ---- float by double
// -------------------------------------------------------------------------------------------------

#define PYDL_BY_DOUBLE(f)                                    \
  inline Vec<float> f(Vec<float> x) {                        \
    return by_double([](Vec<double> a) { return f(a); }, x); \
  }
PYDL_BY_DOUBLE(sinh)
PYDL_BY_DOUBLE(cosh)
PYDL_BY_DOUBLE(asinh)
PYDL_BY_DOUBLE(acosh)
PYDL_BY_DOUBLE(atanh)
PYDL_BY_DOUBLE(erfc)
PYDL_BY_DOUBLE(tan)
PYDL_BY_DOUBLE(asin)
PYDL_BY_DOUBLE(acos)
PYDL_BY_DOUBLE(atan)
#undef PYDL_BY_DOUBLE
inline Vec<float> sin(Vec<float> x) {
  const Mask<float> ordinary = abs(x) <= Format<float>::circular_max;
  const Vec<float> y = select(x == 0.0, x, Circular<float>(x).wave(0));
  if (__builtin_expect(all(ordinary), true)) return y;
  return select(ordinary, y, by_double([](Vec<double> a) { return sin(a); }, x));
}
inline Vec<float> cos(Vec<float> x) {
  const Mask<float> ordinary = abs(x) <= Format<float>::circular_max;
  const Vec<float> y = Circular<float>(x).wave(1);
  if (__builtin_expect(all(ordinary), true)) return y;
  return select(ordinary, y, by_double([](Vec<double> a) { return cos(a); }, x));
}
inline Vec<float> atan2(Vec<float> y, Vec<float> x) {
  return by_double([](Vec<double> a, Vec<double> b) { return atan2(a, b); }, y, x);
}
inline Vec<float> pow(Vec<float> x, Vec<float> y) {
  return by_double([](Vec<double> a, Vec<double> b) { return pow_for_float(a, b); }, x, y);
}
// x to one power in all lanes. By products and roots where that is faster: 1.5 / 1.5 ULP there.
template <class T>
PYDL_INLINE Vec<T> pow_uniform(Vec<T> x, Vec<T> p) {
  const T power = p.lane(0);
  const auto root = [&] {  // of -0 it is 0, and of -inf inf, as IEEE 754 wants of pow
    return select(x == -infinity<T>(), infinity<T>(), sqrt(x + 0.0));
  };
  if (power == T(0)) return T(1);
  if (power == T(1)) return x;
  if (power == T(2)) return x * x;
  if (power == T(3)) return x * x * x;
  if (power == T(4)) return square(x * x);
  if (power == T(0.5)) return root();
  if (power == T(-0.5)) return 1.0 / root();
  if (power == T(-1)) return 1.0 / x;
  if (power == T(-2)) return square(1.0 / x);
  return pow(x, p);
}

inline Vec<float> hypot(Vec<float> x, Vec<float> y) {
  return by_double([](Vec<double> a, Vec<double> b) { return hypot(a, b); }, x, y);
}

// ---- building blocks of activations
// ----------------------------------------------------------------------------------

// 1 / (1 + e^-x), 2.4 / 2.4 ULP
template <class T>
PYDL_INLINE Vec<T> sigmoid(Vec<T> x) {
  const Vec<T> e = exp_clamped(max_or_b(Vec<T>(Format<T>::exp_min), -abs(x)));
  return select(x < 0.0, e, Vec<T>(1.0)) / (e + 1.0);
}

// log(1 + e^x), 1.8 / 1.8 ULP
template <class T>
PYDL_INLINE Vec<T> softplus(Vec<T> x) {
  return max_or_b(Vec<T>(0.0), x) + log1p(exp_clamped(max_or_b(Vec<T>(Format<T>::exp_min), -abs(x))));
}

// log(sigmoid(x)), 1.8 / 1.8 ULP
template <class T>
PYDL_INLINE Vec<T> log_sigmoid(Vec<T> x) {
  return -softplus(-x);
}

// x * (1 + erf(x / sqrt(2))) / 2
inline Vec<double> gelu(Vec<double> x) {
  const Vec<double> half = x * 0.5;
  return fma(abs(half), erf_nonnegative(abs(x) * 0.70710678118654752440), half);
}
// 2.8 ULP for x > 0, 2.6 ULP of x for x < 0, where digits cancel. Its own quotient for erf(x / sqrt(2)), fit for
// absolute error, as 1 is added to it: a third faster than through erf, whose errors would be 2 and 1.1.
PYDL_INLINE Vec<float> gelu(Vec<float> x) {
  const Vec<float> half = x * 0.5, a = min_or_b(Vec<float>(5.55), abs(x)), z = a * a;
  const Vec<float> p = poly(z, 0.896497369, 0.0766477361, 0.0105432589, 0.000384864892, 1.42756107e-05, 5.04342381e-08);
  const Vec<float> q = poly(z, 1.12359297, 0.283328235, 0.0323473327, 0.00213289703, 8.35346218e-05, 1.33553351e-06);
  return fma(abs(half), min_or_b(Vec<float>(1.0), a * p / q), half);
}

// -1, 0 or 1; NaN stays.
template <class T>
PYDL_INLINE Vec<T> sign(Vec<T> x) {
  return select(x > 0.0, Vec<T>(1.0), select(x < 0.0, Vec<T>(-1.0), x));
}

// ---- scalars
// ---------------------------------------------------------------------------------------------------------

template <class T>
using IfFloating = std::enable_if_t<std::is_floating_point<T>::value, int>;

#define PYDL_SCALAR(f)                  \
  template <class T, IfFloating<T> = 0> \
  inline Scalar<T> f(Scalar<T> x) {     \
    return f(Vec<T>(x.raw)).lane(0);    \
  }
PYDL_SCALAR(exp)
PYDL_SCALAR(exp2)
PYDL_SCALAR(expm1)
PYDL_SCALAR(log)
PYDL_SCALAR(log2)
PYDL_SCALAR(log10)
PYDL_SCALAR(log1p)
PYDL_SCALAR(tanh)
PYDL_SCALAR(sinh)
PYDL_SCALAR(cosh)
PYDL_SCALAR(asinh)
PYDL_SCALAR(acosh)
PYDL_SCALAR(atanh)
PYDL_SCALAR(erf)
PYDL_SCALAR(erfc)
PYDL_SCALAR(erfinv)
PYDL_SCALAR(sin)
PYDL_SCALAR(cos)
PYDL_SCALAR(tan)
PYDL_SCALAR(asin)
PYDL_SCALAR(acos)
PYDL_SCALAR(atan)
PYDL_SCALAR(rsqrt)
PYDL_SCALAR(sigmoid)
PYDL_SCALAR(softplus)
PYDL_SCALAR(log_sigmoid)
PYDL_SCALAR(gelu)
PYDL_SCALAR(sign)
#undef PYDL_SCALAR

#define PYDL_SCALAR(f)                              \
  template <class T, IfFloating<T> = 0>             \
  inline Scalar<T> f(Scalar<T> x, Scalar<T> y) {    \
    return f(Vec<T>(x.raw), Vec<T>(y.raw)).lane(0); \
  }
PYDL_SCALAR(atan2)
PYDL_SCALAR(pow)
PYDL_SCALAR(hypot)
#undef PYDL_SCALAR

}  // namespace
}  // namespace pydl
