"""The names of Tensor's methods that are not written in the class: found without an import of what is behind them."""

from __future__ import annotations


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


# A function of pydl._functions with the tensor as its first argument.
FUNCTION_METHODS = _names(
    """
    abs acos acosh addmm all allclose any argmax argmin argsort asin asinh atan atan2 atanh bernoulli bitwise_and
    bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor ceil chunk clip copysign cos cosh
    count_nonzero cumulative_prod cumulative_sum diagonal divide dot equal erf erfc exp exp2 expand_dims expm1 flip
    floor floor_divide fmod gather greater greater_equal hypot index_select isclose isfinite isinf isnan lerp less
    less_equal log log10 log1p log2 log_softmax logaddexp logical_and logical_not logical_or logical_xor logsumexp
    masked_fill matmul maximum mean minimum moveaxis multinomial multiply negative nextafter nonzero norm not_equal
    outer positive pow prod reciprocal relu remainder repeat_interleave roll round rsqrt scatter scatter_add sigmoid
    sign signbit sin sinh softmax split sqrt square sum swap_axes take take_along_axis tan tanh tile topk trace tril
    triu trunc unique_values unstack where
    """
)

# A function of pydl._compositions with the tensor as its first argument.
COMPOSITION_METHODS = _names(
    """
    addbmm addcdiv addcmul addmv addr adjoint amax amin aminmax angle argwhere as_strided baddbmm bincount bucketize
    cauchy_ cholesky clamp_max clamp_min conj conj_physical corrcoef cov cross cummax cummin deg2rad det diag
    diag_embed diagflat diagonal_scatter diff digamma dist div dsplit erfinv exponential_ fill fliplr flipud
    float_power fmax fmin frac frexp gcd geometric_ gradient heaviside histc histogram hsplit i0 igamma igammac
    index_add index_copy index_fill index_put index_reduce inner inverse is_complex is_nonzero is_same_size
    is_signed isneginf isposinf isreal kron kthvalue lcm ldexp lgamma log_normal_ logaddexp2 logcumsumexp logdet
    logit masked_scatter masked_select matrix_exp matrix_power matrix_rank median mode msort mvlgamma nan_to_num
    nanmean nanmedian nanquantile nansum narrow pinverse polygamma put qr quantile rad2deg random_ renorm resize_
    resize_as_ resolve_conj resolve_neg rot90 scatter_reduce searchsorted select select_scatter sinc slice_scatter
    slogdet split_with_sizes std_mean sum_to_size svd take_along_dim tensor_split unique unique_consecutive var_mean
    vdot vsplit xlogy
    """
)

# What a method or function of the name without its last character gives, written into the tensor.
IN_PLACE_METHODS = _names(
    """
    abs_ absolute_ acos_ acosh_ addbmm_ addcdiv_ addcmul_ addmm_ addmv_ addr_ arccos_ arccosh_ arcsin_ arcsinh_
    arctan2_ arctan_ arctanh_ as_strided_ asin_ asinh_ atan2_ atan_ atanh_ baddbmm_ bitwise_and_ bitwise_invert_
    bitwise_left_shift_ bitwise_not_ bitwise_or_ bitwise_right_shift_ bitwise_xor_ ceil_ clamp_ clamp_max_
    clamp_min_ clip_ conj_physical_ copysign_ cos_ cosh_ cumprod_ cumsum_ cumulative_prod_ cumulative_sum_ deg2rad_
    digamma_ div_ divide_ eq_ erf_ erfc_ erfinv_ exp2_ exp_ expand_dims_ expm1_ fix_ flip_ float_power_ floor_
    floor_divide_ fmax_ fmin_ fmod_ frac_ gcd_ ge_ greater_ greater_equal_ gt_ heaviside_ hypot_ i0_ igamma_
    igammac_ index_add_ index_copy_ index_fill_ index_put_ index_reduce_ lcm_ ldexp_ le_ lerp_ less_ less_equal_
    lgamma_ log10_ log1p_ log2_ log_ log_softmax_ logaddexp_ logical_and_ logical_not_ logical_or_ logical_xor_
    logit_ lt_ masked_scatter_ maximum_ minimum_ mul_ multiply_ mvlgamma_ nan_to_num_ ne_ neg_ negative_ nextafter_
    not_equal_ polygamma_ pow_ put_ rad2deg_ reciprocal_ relu_ remainder_ renorm_ roll_ round_ rsqrt_ scatter_
    scatter_add_ scatter_reduce_ sgn_ sigmoid_ sign_ sin_ sinc_ sinh_ softmax_ sqrt_ square_ squeeze_ sub_
    swap_axes_ swapaxes_ swapdims_ t_ tan_ tanh_ transpose_ tril_ triu_ true_divide_ trunc_ unsqueeze_ where_ xlogy_
    """
)
