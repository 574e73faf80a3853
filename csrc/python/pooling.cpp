// Bindings: pooling and interpolation.
#include <pybind11/stl.h>

#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

py::object with_indices(const std::pair<Tensor, Tensor>& result, bool return_indices) {
  if (return_indices) return py::make_tuple(result.first, result.second);
  return py::cast(result.first);
}

// None is -1, the input's own size.
Dims output_size(const py::object& size) {
  const auto one = [](py::handle item) { return item.is_none() ? int64_t{-1} : item.cast<int64_t>(); };
  if (size.is_none() || !py::isinstance<py::sequence>(size)) return {one(size)};
  Dims out;
  for (py::handle item : py::reinterpret_borrow<py::sequence>(size)) out.push_back(one(item));
  return out;
}

}  // namespace

void bind_pooling(py::module_& m) {
  m.def(
      "max_pool",
      [](const Tensor& x, int rank, const Dims& kernel_size, const Dims& stride, const Dims& padding,
         const Dims& dilation, bool ceil_mode, bool return_indices) {
        ops::PoolOptions o;
        o.rank = rank;
        o.kernel_size = kernel_size;
        o.stride = stride;
        o.padding = padding;
        o.dilation = dilation;
        o.ceil_mode = ceil_mode;
        return with_indices(ops::max_pool(x, o, return_indices), return_indices);
      },
      "input"_a, "rank"_a, "kernel_size"_a, "stride"_a, "padding"_a, "dilation"_a, "ceil_mode"_a, "return_indices"_a);
  m.def(
      "avg_pool",
      [](const Tensor& x, int rank, const Dims& kernel_size, const Dims& stride, const Dims& padding, bool ceil_mode,
         bool count_include_pad, std::optional<int64_t> divisor_override) {
        ops::PoolOptions o;
        o.rank = rank;
        o.kernel_size = kernel_size;
        o.stride = stride;
        o.padding = padding;
        o.ceil_mode = ceil_mode;
        o.count_include_pad = count_include_pad;
        o.divisor_override = divisor_override;
        return ops::avg_pool(x, o);
      },
      "input"_a, "rank"_a, "kernel_size"_a, "stride"_a, "padding"_a, "ceil_mode"_a, "count_include_pad"_a,
      "divisor_override"_a);
  m.def(
      "adaptive_max_pool",
      [](const Tensor& x, int rank, const py::object& size, bool return_indices) {
        return with_indices(ops::adaptive_max_pool(x, rank, output_size(size), return_indices), return_indices);
      },
      "input"_a, "rank"_a, "output_size"_a, "return_indices"_a);
  m.def(
      "adaptive_avg_pool",
      [](const Tensor& x, int rank, const py::object& size) {
        return ops::adaptive_avg_pool(x, rank, output_size(size));
      },
      "input"_a, "rank"_a, "output_size"_a);
  m.def(
      "interpolate",
      [](const Tensor& x, const Dims& size, const std::vector<double>& scales, const std::string& kind,
         bool align_corners) {
        const ops::Resampling resampling = kind == "nearest"         ? ops::Resampling::nearest
                                           : kind == "nearest-exact" ? ops::Resampling::nearest_exact
                                           : kind == "cubic"         ? ops::Resampling::cubic
                                                                     : ops::Resampling::linear;
        return ops::interpolate(x, size, scales, resampling, align_corners);
      },
      "input"_a, "size"_a, "scales"_a, "kind"_a, "align_corners"_a);
}

}  // namespace pydl::python
