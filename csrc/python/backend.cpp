// Bindings: kernel tables, threads, memory; and Python's lock around kernels.
#include <pybind11/stl.h>

#include "backend/cpu_features.h"
#include "backend/registry.h"
#include "core/allocator.h"
#include "core/thread_pool.h"
#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

void bind_backend(py::module_& m) {
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
