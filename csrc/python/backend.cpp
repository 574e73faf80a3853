// Bindings: kernel tables, threads, memory; and Python's lock around kernels.
#include <pybind11/stl.h>

#include "backend/cpu_features.h"
#include "backend/registry.h"
#include "core/allocator.h"
#include "core/capture.h"
#include "core/thread_pool.h"
#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

struct DeviceBackend {  // what the capsule of pydl._cuda holds
  const KernelTable* table;
  const DeviceHooks* hooks;
  const CaptureHooks* capture;
};

int checked_index(const py::object& device) {
  const Device d = as_device(device);
  if (d.is_cpu()) throw ValueError("[cuda] got the device cpu, expected a CUDA device such as 'cuda:0'");
  return d.index;
}

void bind_cuda(py::module_& m) {
  m.def("_register_device", [](const py::capsule& backend) {
    const auto* b = backend.get_pointer<DeviceBackend>();
    register_device(b->table, b->hooks);
    set_capture_hooks(b->capture);
  });
  m.def("cuda_device_count", [] { return device_hooks() ? device_hooks()->count() : 0; });
  m.def("cuda_missing_kernels", [] {
    std::vector<std::string> out;
    require_device_hooks();
#define KERNEL(name, Args) \
  if (!device_table()->name) out.push_back(#name);
#include "backend/kernels.def"
#undef KERNEL
    return out;
  });
  m.def(
      "cuda_synchronize",
      [](const py::object& device) {
        const int index = checked_index(device);
        {
          const LockReleased lock(kReleaseLockAbove + 1);
          require_device_hooks().synchronize(index);
        }
        check_device_error("synchronize");
      },
      "device"_a);
  m.def(
      "cuda_properties",
      [](const py::object& device) {
        DeviceProperties p{};
        require_device_hooks().properties(checked_index(device), &p);
        check_device_error("get_device_properties");
        return py::dict("name"_a = p.name, "total_memory"_a = p.total_bytes,
                        "multi_processor_count"_a = p.multiprocessors, "major"_a = p.major, "minor"_a = p.minor);
      },
      "device"_a);
  m.def(
      "cuda_memory",
      [](const py::object& device) {
        DeviceMemory s{};
        require_device_hooks().memory(checked_index(device), &s);
        check_device_error("memory");
        return py::dict("allocated"_a = s.allocated, "peak"_a = s.peak, "reserved"_a = s.reserved,
                        "free"_a = s.free_bytes, "total"_a = s.total_bytes);
      },
      "device"_a);
  m.def(
      "cuda_reset_peak", [](const py::object& device) { require_device_hooks().reset_peak(checked_index(device)); },
      "device"_a);
  m.def(
      "cuda_empty_cache",
      [](const py::object& device) {
        require_device_hooks().empty_cache(checked_index(device));
        check_device_error("empty_cache");
      },
      "device"_a);
  m.def(
      "cuda_set_limit",
      [](const py::object& device, double fraction) {
        require_device_hooks().set_limit(checked_index(device), fraction);
        check_device_error("set_per_process_memory_fraction");
      },
      "device"_a, "fraction"_a);
  m.def("cuda_versions", [] {
    int runtime = 0, driver = 0;
    require_device_hooks().versions(&runtime, &driver);
    const auto name = [](const char* library) {
      return library ? py::object(py::str(library)) : py::object(py::none());
    };
    return py::make_tuple(runtime, driver, name(require_device_hooks().gemm_library()),
                          name(require_device_hooks().convolution_library()));
  });
  m.def(
      "cuda_allow_tf32", [](bool on) { require_device_hooks().allow_tf32(on); }, "on"_a);
  py::class_<Graph>(m, "CapturedGraph", "The calls of a step on a device, to be made again without the code.")
      .def(py::init([](const py::object& device) { return std::make_unique<Graph>(as_device(device)); }), "device"_a)
      .def("begin", &Graph::begin)
      .def("end", &Graph::end)
      .def("abandon", &Graph::abandon)
      .def("renew", &Graph::renew)
      .def("stop_renewing", &Graph::stop_renewing)
      .def("launch", &Graph::launch)
      .def("check", &Graph::check)
      .def_property_readonly("captured", &Graph::captured)
      .def_property_readonly("generators", [](const Graph& g) {
        py::list out;  // their Python objects, which keep them alive
        for (Generator* generator : g.generators()) out.append(py::cast(generator, py::return_value_policy::reference));
        return out;
      });
  m.def("is_capturing", [] { return Graph::current() != nullptr; });
}

}  // namespace

void bind_backend(py::module_& m) {
  bind_cuda(m);
  set_lock_hooks({[]() -> void* { return PyGILState_Check() ? PyEval_SaveThread() : nullptr; },
                  [](void* state) { PyEval_RestoreThread(static_cast<PyThreadState*>(state)); }});
  cpu_table();  // PYDL_ISA is judged at import, where the message is seen
  m.def("get_num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, "n"_a);
  m.def("available_cpus", &available_cpus);
  m.def("isa", [] { return cpu_table().isa; });
  m.def("select_isa", &select_isa, "isa"_a);
  m.def("cpu_name", &cpu_name);
  m.def(
      "isa_levels",
      [] {
        py::list out;
        for (const TableInfo& info : cpu_tables()) out.append(py::make_tuple(info.isa, info.supported, info.missing));
        return out;
      },
      "(name, can run here, what is missing) of each level in this build, best first.");
  m.def(
      "missing_kernels",
      [](const std::string& isa) {
        const std::string before = cpu_table().isa;
        select_isa(isa);
        const KernelTable& table = cpu_table();
        select_isa(before);
        std::vector<std::string> out;
#define KERNEL(name, Args) \
  if (!table.name) out.push_back(#name);
#include "backend/kernels.def"
#undef KERNEL
        return out;
      },
      "isa"_a, "The names of the kernels that a level's table lacks.");
  m.def("kernel_names", [] {
    return std::vector<std::string>{
#define KERNEL(name, Args) #name,
#include "backend/kernels.def"
#undef KERNEL
    };
  });
  m.def("memory_stats", [] {
    const AllocatorStats s = allocator_stats();
    return py::dict("allocated"_a = s.allocated, "peak"_a = s.peak, "cached"_a = s.cached);
  });
  m.def("reset_peak_memory", &allocator_reset_peak);
  m.def("release_cached_memory", &allocator_release_cache);
}

}  // namespace pydl::python
