// The logarithm of the gamma function and its derivatives, over a generic value V of doubles: Abramowitz and Stegun,
// "Handbook of Mathematical Functions" (1964), chapter 6, and 23.2 for Hurwitz's zeta. Asymptotic series for large
// arguments, to where whole steps bring smaller arguments; Euler's reflection below zero. Include the header of V
// first: it defines PYDL_INLINE.
#pragma once

namespace pydl {
namespace {

// c0 + c1 x + c2 x^2 + ...
template <class V>
PYDL_INLINE V horner(V, double c0) {
  return V(c0);
}
template <class V, class... C>
PYDL_INLINE V horner(V x, double c0, C... rest) {
  return fma(horner(x, rest...), x, V(c0));
}

template <class V>
PYDL_INLINE V if_whole(V x, V yes, V no) {
  return select(x == floor(x), yes, no);
}

// log(Γ(x)) of x >= 0 or NaN. Up to 10, steps lead to 2 + w, |w| <= 1/2, where it is w times a polynomial (a minimax
// fit); what they pass is one product. So it has its digits around its zeros too.
template <class V>
PYDL_INLINE V log_of_positive(V x) {
  V w = x - 2.0, product(1.0);
  for (int step = 0; step < 8; ++step) {
    const auto far = w >= 0.5;
    if (!any(far)) break;
    product = select(far, product * (w + 1.0), product);  // w + 1: the argument after the step down
    w = select(far, w - 1.0, w);
  }
  w = select(x < 0.5, x, select(x < 1.5, x - 1.0, w));
  product = select(x < 0.5, x * (x + 1.0), select(x < 1.5, x, product));
  const auto large = x >= 10.0;
  const V log_product = log(select(large, x, product)), r = 1.0 / x;
  const V near =
      w * horner(w, 0.42278433509846713, 0.3224670334241133, -0.06735230105319576, 0.02058080842776596,
                 -0.007385551028925185, 0.002890510331841769, -0.0011927539013296534, 0.000509669495110251,
                 -0.0002231549722585787, 9.945794422418569e-05, -4.4923771956065535e-05, 2.0503543652603072e-05,
                 -9.456078739607278e-06, 4.3935222635889474e-06, -1.9748268937543237e-06, 8.998985459450361e-07,
                 -5.806117183399749e-07, 2.977087882428578e-07);
  const V tail =
      r * horner(r * r, 1.0 / 12, -1.0 / 360, 1.0 / 1260, -1.0 / 1680, 1.0 / 1188, -691.0 / 360360, 1.0 / 156);
  const V stirling = fma(x - 0.5, log_product - 1.0, tail + 0.41893853320467274);  // (log(2π) - 1) / 2
  return select(large, stirling, select(x < 1.5, near - log_product, near + log_product));
}

// log|Γ(x)|: infinite at 0, the negative whole numbers and both infinities.
template <class V>
PYDL_INLINE V log_gamma_of(V x) {
  const auto negative = x < 0.0;
  const V value = log_of_positive(select(negative, 1.0 - x, x));
  if (!any(negative)) return value;
  const V reflected = -log(abs(sin(3.14159265358979323846 * (x - round(x)))) * 0.31830988618379067154) - value;
  return select(negative, if_whole(x, V(__builtin_huge_val()), reflected), value);
}

// Γ'(x) / Γ(x): infinite at 0, NaN at the negative whole numbers and -infinity.
template <class V>
PYDL_INLINE V digamma_of(V x) {
  const auto negative = x < 0.0;
  V z = select(negative, 1.0 - x, x);
  V above(0.0), below(1.0);  // above / below: the sum of 1 / z over the steps up to 10
  for (int step = 0; step < 10; ++step) {
    const auto near = z < 10.0;
    if (!any(near)) break;
    above = select(near, fma(above, z, below), above);
    below = select(near, below * z, below);
    z = select(near, z + 1.0, z);
  }
  const V r = 1.0 / z;
  const V tail = horner(r * r, 1.0 / 12, -1.0 / 120, 1.0 / 252, -1.0 / 240, 1.0 / 132, -691.0 / 32760, 1.0 / 12);
  const V value = log(z) - 0.5 * r - tail * r * r - above / below;
  if (!any(negative | (x == 0.0))) return value;
  const V angle = 3.14159265358979323846 * (x - round(x));
  const V reflected = if_whole(x, V(__builtin_nan("")), value - 3.14159265358979323846 / tan(angle));
  return select(x == 0.0, copysign(V(__builtin_huge_val()), -x), select(negative, reflected, value));
}

// x to the power of n >= 0.
template <class V>
PYDL_INLINE V power(V x, int n) {
  V value(1.0);
  for (; n > 0; n >>= 1) {
    if (n & 1) value = value * x;
    x = x * x;
  }
  return value;
}

// The order-th derivative of digamma, order >= 1: ± order! times Hurwitz's zeta of order + 1, summed by Euler and
// Maclaurin from where their series has float64's precision. Infinite at 0 and the negative whole numbers. Below 0
// by reflection for order 1; else by steps too, and NaN below -10,000, from where they would take minutes.
template <class V>
PYDL_INLINE V polygamma_of(V x, int order) {
  const int s = order + 1;
  const auto reflected = (x < 0.0) & (V(order) == 1.0);
  const V start = select(reflected, 1.0 - x, select(x < -10000.0, V(__builtin_nan("")), x));
  const double enough = 8 + 2 * s;
  V z = start, value(0.0);
  for (auto near = z < enough; any(near); near = z < enough) {
    value = select(near, value + power(1.0 / z, s), value);
    z = select(near, z + 1.0, z);
  }
  const V r = 1.0 / z, leading = power(r, order);
  value += leading * (1.0 / order) + 0.5 * leading * r;
  // B2k / (2k)!
  constexpr double kTerms[] = {
      1.0 / 12, -1.0 / 720, 1.0 / 30240, -1.0 / 1209600, 1.0 / 47900160, -691.0 / 1307674368000, 1.0 / 74724249600};
  V term = leading * r * r * static_cast<double>(s);  // s (s + 1) ... (s + 2k - 2) r^(s + 2k - 1)
  for (int k = 1; k <= 7; ++k) {
    value += term * kTerms[k - 1];
    term = term * r * r * (static_cast<double>(s + 2 * k - 1) * (s + 2 * k));
  }
  if (any(reflected)) {
    const V slope = 3.14159265358979323846 / sin(3.14159265358979323846 * (x - round(x)));
    value = select(reflected, slope * slope - value, value);
  }
  double factor = order % 2 == 0 ? -1 : 1;
  for (int k = 2; k <= order; ++k) factor *= k;
  return factor * select(x <= 0.0, if_whole(x, V(__builtin_huge_val()), value), value);
}

}  // namespace
}  // namespace pydl
