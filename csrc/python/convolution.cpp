// Bindings: convolutions. Numbers of the arguments may be one for all axes or one for each.
#include <pybind11/stl.h>

#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

const char* const kNames[2][3] = {{"conv1d", "conv2d", "conv3d"},
                                  {"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}};
const char* const kAlgorithms[] = {"gemm", "pointwise", "depthwise", "winograd", "narrow"};

const char* name_of(int rank, bool transposed) {
  if (rank < 1 || rank > 3) throw ValueError(text("[convolution] got ", rank, " spatial axes, expected 1 to 3"));
  return kNames[transposed][rank - 1];
}

ops::ConvolutionOptions options_of(const char* op, const Dims& stride, const py::object& padding, const Dims& dilation,
                                   int64_t groups, const std::optional<std::string>& algorithm) {
  ops::ConvolutionOptions o;
  o.stride = stride;
  o.dilation = dilation;
  o.groups = groups;
  if (py::isinstance<py::str>(padding)) {
    const std::string mode = padding.cast<std::string>();
    if (mode != "same" && mode != "valid")
      throw ValueError(text("[", op, "] got padding '", mode, "', expected numbers, 'same' or 'valid'"));
    o.padding_mode = mode == "same" ? ops::ConvolutionOptions::same : ops::ConvolutionOptions::valid;
  } else {
    try {
      o.padding = padding.cast<Dims>();
    } catch (const py::cast_error&) {
      throw TypeError(text("[", op, "] got padding ", py::repr(padding).cast<std::string>(),
                           ", expected whole numbers, 'same' or 'valid'"));
    }
  }
  if (!algorithm) return o;
  for (int i = 0; i < 5; ++i)
    if (*algorithm == kAlgorithms[i]) o.algorithm = static_cast<ConvAlgorithm>(i);
  if (!o.algorithm)
    throw ValueError(text("[", op, "] got algorithm '", *algorithm,
                          "', expected 'gemm', 'pointwise', 'depthwise', 'winograd' or 'narrow'"));
  return o;
}

}  // namespace

void bind_convolution(py::module_& m) {
  m.def(
      "convolution",
      [](int rank, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Dims& stride,
         const py::object& padding, const Dims& dilation, int64_t groups, const std::optional<std::string>& algorithm) {
        const char* op = name_of(rank, false);
        return ops::convolution(op, rank, x, weight, or_undefined(bias),
                                options_of(op, stride, padding, dilation, groups, algorithm));
      },
      "rank"_a, "x"_a, "weight"_a, "bias"_a = py::none(), "stride"_a = 1, "padding"_a = 0, "dilation"_a = 1,
      "groups"_a = 1, "algorithm"_a = py::none());
  m.def(
      "convolution_transposed",
      [](int rank, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Dims& stride,
         const Dims& padding, const Dims& output_padding, const Dims& dilation, int64_t groups,
         const std::optional<std::string>& algorithm) {
        const char* op = name_of(rank, true);
        ops::ConvolutionOptions o = options_of(op, stride, py::cast(padding), dilation, groups, algorithm);
        o.transposed = true;
        o.output_padding = output_padding;
        return ops::convolution(op, rank, x, weight, or_undefined(bias), o);
      },
      "rank"_a, "x"_a, "weight"_a, "bias"_a = py::none(), "stride"_a = 1, "padding"_a = 0, "output_padding"_a = 0,
      "dilation"_a = 1, "groups"_a = 1, "algorithm"_a = py::none());
  m.def(
      "convolution_algorithms",
      [](int rank, const Tensor& x, const Tensor& weight, const Dims& stride, const py::object& padding,
         const Dims& dilation, int64_t groups, bool transposed) {
        const char* op = name_of(rank, transposed);
        ops::ConvolutionOptions o = options_of(op, stride, padding, dilation, groups, std::nullopt);
        o.transposed = transposed;
        std::vector<std::string> names;
        for (ConvAlgorithm a : ops::convolution_algorithms(op, rank, x, weight, o))
          names.emplace_back(kAlgorithms[static_cast<int>(a)]);
        return py::make_tuple(names[0], names[1], names[2]);
      },
      "rank"_a, "x"_a, "weight"_a, "stride"_a = 1, "padding"_a = 0, "dilation"_a = 1, "groups"_a = 1,
      "transposed"_a = false);
}

}  // namespace pydl::python
