// Bindings: generators and random tensors.
#include <random>

#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

Generator& of(const py::object& generator) {
  return generator.is_none() ? default_generator() : generator.cast<Generator&>();
}

uint64_t fresh_seed() {
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

// Any integer, modulo 2^64, as in PyTorch: -1 is a seed too.
uint64_t seed_of(const char* where, const py::object& seed) {
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(seed.ptr()));
  if (!index) {
    PyErr_Clear();
    throw TypeError("[" + std::string(where) + "] got " + py::repr(seed).cast<std::string>() +
                    " as seed, expected an integer");
  }
  return PyLong_AsUnsignedLongLongMask(index.ptr());
}

Tensor state_tensor(const Generator& g) {
  const GeneratorState s = g.state();
  Tensor t = Tensor::empty({2}, DType::uint64, Device{});
  t.data<uint64_t>()[0] = s.seed;
  t.data<uint64_t>()[1] = s.offset;
  return t;
}

void set_state(Generator& g, const Tensor& state) {
  if (!state.defined() || state.dtype() != DType::uint64 || state.shape() != Dims{2} || !state.contiguous())
    throw ValueError("[Generator.set_state] expected what get_state returned: a uint64 tensor of shape (2,)");
  g.set_state({state.data<uint64_t>()[0], state.data<uint64_t>()[1]});
}

}  // namespace

void bind_random(py::module_& m) {
  py::class_<Generator>(
      m, "Generator",
      "A stream of random numbers (Philox4x32-10, Salmon et al. 2011): a seed and a position, nothing else.")
      .def(py::init([](const py::object& seed) {
             return std::make_unique<Generator>(seed.is_none() ? fresh_seed() : seed_of("Generator", seed));
           }),
           "seed"_a = py::none())
      .def(
          "manual_seed",
          [](py::object self, const py::object& seed) {
            self.cast<Generator&>().manual_seed(seed_of("Generator.manual_seed", seed));
            return self;
          },
          "seed"_a)
      .def(
          "seed",
          [](Generator& g) {
            const uint64_t seed = fresh_seed();
            g.manual_seed(seed);
            return seed;
          },
          "Seeds from the system's entropy and returns the seed.")
      .def("initial_seed", &Generator::seed)
      .def("get_state", &state_tensor, "The state, a uint64 tensor of shape (2,): seed and position.")
      .def("set_state", &set_state, "state"_a);
  m.def(
      "default_generator", []() -> Generator& { return default_generator(); }, py::return_value_policy::reference);
  m.def(
      "uniform",
      [](const Dims& shape, double low, double high, DType dtype, const py::object& g, const py::object& device) {
        return ops::uniform(shape, low, high, dtype, as_device(device), of(g));
      },
      "shape"_a, "low"_a, "high"_a, "dtype"_a, "generator"_a = py::none(), "device"_a = py::none());
  m.def(
      "normal",
      [](const Dims& shape, double mean, double std, DType dtype, const py::object& g, const py::object& device) {
        return ops::normal(shape, mean, std, dtype, as_device(device), of(g));
      },
      "shape"_a, "mean"_a, "std"_a, "dtype"_a, "generator"_a = py::none(), "device"_a = py::none());
  m.def(
      "randint",
      [](int64_t low, int64_t high, const Dims& shape, DType dtype, const py::object& g, const py::object& device) {
        return ops::randint(low, high, shape, dtype, as_device(device), of(g));
      },
      "low"_a, "high"_a, "shape"_a, "dtype"_a, "generator"_a = py::none(), "device"_a = py::none());
  m.def(
      "randperm",
      [](int64_t n, const py::object& g, const py::object& device) {
        return ops::randperm(n, as_device(device), of(g));
      },
      "n"_a, "generator"_a = py::none(), "device"_a = py::none());
  m.def(
      "bernoulli", [](const Tensor& p, const py::object& g) { return ops::bernoulli(p, of(g)); }, "p"_a,
      "generator"_a = py::none());
  m.def(
      "multinomial",
      [](const Tensor& p, int64_t samples, bool replacement, const py::object& g) {
        return ops::multinomial(p, samples, replacement, of(g));
      },
      "probabilities"_a, "num_samples"_a, "replacement"_a = false, "generator"_a = py::none());
}

}  // namespace pydl::python
