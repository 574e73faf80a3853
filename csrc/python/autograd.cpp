// Bindings: the engine, gradient mode, hooks and functions written in Python.
#include <pthread.h>
#include <pybind11/stl.h>

#include <mutex>

#include "autograd/engine.h"
#include "backend/registry.h"
#include "ops/ops.h"
#include "python/bindings.h"
#include "python/tensor_type.h"

namespace pydl::python {

using namespace pybind11::literals;

namespace {

// A Python object that may be dropped from any thread.
struct PythonCallable {
  explicit PythonCallable(py::object f) : function(f.release().ptr()) {}
  ~PythonCallable() {
    if (!Py_IsInitialized()) return;
    py::gil_scoped_acquire gil;
    Py_DECREF(function);
  }
  PyObject* function;
};

struct PythonHook {
  std::shared_ptr<PythonCallable> callable;
  Tensor operator()(const Tensor& grad) const {
    py::gil_scoped_acquire gil;
    const py::object result = py::reinterpret_borrow<py::object>(callable->function)(grad);
    if (result.is_none()) return Tensor();
    if (!is_tensor(result.ptr())) throw TypeError("[hook] must return a tensor or None");
    return unwrap(result.ptr());
  }
};

// backward(*grads) -> gradients of the inputs, one per edge.
class PythonNode final : public autograd::Node {
 public:
  // A saved output with its history, for the backward that runs in this thread; see Saved.
  static Tensor output_of_running(const Tensor& alias, int output) {
    if (!t_running || !autograd::grad_enabled()) return alias;
    const Tensor y = alias.alias();
    autograd::Meta& m = autograd::require_meta(y);
    m.node = Ref<autograd::Node>(t_running);
    m.output = output;
    return y;
  }

  PythonNode(std::string name, py::object backward)
      : name_(std::move(name)), backward_(std::make_shared<PythonCallable>(std::move(backward))) {}
  const char* name() const override { return name_.c_str(); }
  void release_saved() override { backward_.reset(); }
  void backward(const Tensor* d_out, Tensor* d_in) override {
    py::gil_scoped_acquire gil;
    const Running running(this);
    py::tuple grads(outputs.size());
    for (size_t i = 0; i < outputs.size(); ++i)
      grads[i] = d_out[i].defined() ? d_out[i] : ops::zeros(outputs[i].shape, outputs[i].dtype, outputs[i].device);
    py::object result = py::reinterpret_borrow<py::object>(backward_->function)(*grads);
    if (!py::isinstance<py::tuple>(result)) result = py::make_tuple(result);
    const py::tuple items = result;
    if (items.size() != edges.size())
      throw ValueError(text("[", name_, "] backward returned ", items.size(), " gradients, expected ", edges.size(),
                            ", one for each argument of forward"));
    for (size_t i = 0; i < edges.size(); ++i) {
      const py::handle item = items[i];
      if (item.is_none()) continue;
      if (!is_tensor(item.ptr())) throw TypeError(text("[", name_, "] backward must return tensors or None"));
      d_in[i] = unwrap(item.ptr());
      if (!edges[i].node) continue;
      const Dims& expected = edges[i].node->outputs[static_cast<size_t>(edges[i].output)].shape;
      if (d_in[i].shape() != expected)
        throw ValueError(text("[", name_, "] backward returned a gradient of shape ", d_in[i].shape(), " for argument ",
                              i, ", expected ", expected));
    }
  }

 private:
  struct Running {
    explicit Running(PythonNode* node) : before(std::exchange(t_running, node)) {}
    ~Running() { t_running = before; }
    PythonNode* before;
  };
  static thread_local PythonNode* t_running;

  std::string name_;
  std::shared_ptr<PythonCallable> backward_;
};
thread_local PythonNode* PythonNode::t_running = nullptr;

// Kernels run without Python's lock, so that sums into one leaf from several threads have to take turns.
std::mutex& leaf_turn() {
  static std::mutex* turn = [] {
    static std::mutex m;
    pthread_atfork([] { m.lock(); }, [] { m.unlock(); }, [] { m.unlock(); });
    return &m;
  }();
  return *turn;
}

std::vector<Tensor> optional_tensors(const py::object& items, size_t count) {
  if (items.is_none()) return std::vector<Tensor>(count);
  std::vector<Tensor> out;
  for (py::handle item : items) out.push_back(item.is_none() ? Tensor() : item.cast<Tensor>());
  if (out.size() != count) throw ValueError(text("[backward] got ", out.size(), " gradients for ", count, " tensors"));
  return out;
}

void add_inplace(const Tensor& dst, const Tensor& src) {
  autograd::GradMode off(false);
  if (src.contiguous() && src.shape() == dst.shape() && src.dtype() == dst.dtype() && dst.contiguous()) {
    if (src.impl()->origin && ops::touched_rows(src)) return ops::add_touched_rows(dst, src);
    const AccumulateArgs args{dst.dtype(), dst.count(), src.bytes(), dst.bytes(), 1.0};
    PYDL_LAUNCH(dst.device(), args.count, accumulate, args);
    autograd::note_inplace(dst);
  } else {
    ops::copy_into(dst, ops::add(dst, src));
  }
}

autograd::EngineOps engine_ops() {
  autograd::EngineOps e;
  e.add = [](const Tensor& a, const Tensor& b) { return ops::add(a, b); };
  e.add_inplace = add_inplace;
  e.add_to_shared = [](const Tensor& dst, const Tensor& src) {
    const int64_t work = dst.count() * 2;
    const LockReleased python(work);  // first: whoever has the turn may need it to go on
    std::unique_lock<std::mutex> turn(leaf_turn(), std::defer_lock);
    if (work > kReleaseLockAbove) turn.lock();
    add_inplace(dst, src);
  };
  e.sum_to = [](const Tensor& x, const Dims& shape) { return ops::sum_to(x, shape); };
  e.cast = [](const Tensor& x, DType dtype) { return ops::cast(x, dtype); };
  e.clone = [](const Tensor& x) { return ops::clone(x); };
  e.ones_like = [](const Tensor& x) {
    return ops::full(x.shape(), ops::Number::of(int64_t{1}), x.dtype(), x.device());
  };
  return e;
}

}  // namespace

PyObject* python_function(const autograd::Hook& hook) {
  const PythonHook* p = hook.target<PythonHook>();
  return p ? p->callable->function : nullptr;
}

void bind_autograd(py::module_& m) {
  autograd::set_engine_ops(engine_ops());
  m.def(
      "backward",
      [](const std::vector<Tensor>& roots, const py::object& grads, bool retain_graph, bool create_graph) {
        autograd::backward(roots, optional_tensors(grads, roots.size()), {retain_graph || create_graph, create_graph});
      },
      "tensors"_a, "grads"_a = py::none(), "retain_graph"_a = false, "create_graph"_a = false);
  m.def(
      "grad",
      [](const std::vector<Tensor>& roots, const std::vector<Tensor>& inputs, const py::object& grads,
         bool retain_graph, bool create_graph) {
        return autograd::grad(roots, optional_tensors(grads, roots.size()), inputs,
                              {retain_graph || create_graph, create_graph});
      },
      "outputs"_a, "inputs"_a, "grad_outputs"_a = py::none(), "retain_graph"_a = false, "create_graph"_a = false);
  m.def("is_grad_enabled", &autograd::grad_enabled);
  m.def("set_grad_enabled", &autograd::set_grad_enabled, "enabled"_a);
  m.def("add_hook", [](const Tensor& t, py::object f) {
    return autograd::add_hook(t, PythonHook{std::make_shared<PythonCallable>(std::move(f))});
  });
  m.def("remove_hook", &autograd::remove_hook);
  m.def(
      "set_observer",
      [](py::object f) {
        if (f.is_none()) return autograd::set_observer(nullptr);
        const auto callable = std::make_shared<PythonCallable>(std::move(f));
        autograd::set_observer([callable](const char* op, uint64_t sequence, size_t input, const Tensor& grad) {
          py::gil_scoped_acquire gil;
          py::reinterpret_borrow<py::object>(callable->function)(op, sequence, input, grad);
        });
      },
      "f"_a,
      "Call f(op, number, input, gradient) for each gradient that an op computes in this thread's backward passes.");
  m.def("next_sequence", &autograd::next_sequence, "The number that an op recorded now would get.");
  m.def("output_of_running", &PythonNode::output_of_running, "alias"_a, "output"_a);
  m.def("retain_grad", [](const Tensor& t) {
    if (!autograd::requires_grad(t))
      throw autograd::AutogradError("[retain_grad] the tensor does not require a gradient");
    autograd::require_meta(t).retains_grad = true;
  });
  m.def(
      "record_python",
      [](const std::string& name, const py::sequence& inputs, const std::vector<Tensor>& outputs, py::object backward) {
        Ref<autograd::Node> node(new PythonNode(name, std::move(backward)));
        node->sequence = autograd::next_sequence();
        for (py::handle t : inputs) autograd::add_edge(*node, is_tensor(t.ptr()) ? unwrap(t.ptr()) : Tensor());
        for (const Tensor& t : outputs) autograd::add_output(node, t);
      },
      "name"_a, "inputs"_a, "outputs"_a, "backward"_a);
  m.def("forget", [](const Tensor& t) {
    if (t.impl()->is_view) throw autograd::AutogradError("[detach_] a view can't forget its history; use detach()");
    autograd::drop_history(t);
  });
  // The same tensor on other memory, of another dtype even: a module converts its parameters and they stay the same
  // objects.
  m.def(
      "set_data",
      [](const Tensor& x, const Tensor& value) {
        if (!autograd::is_leaf(x))
          throw autograd::AutogradError("[data] only a leaf's memory can be exchanged; use copy_()");
        autograd::Meta* m = autograd::meta(x);
        if (m && m->requires_grad && !is_float(value.dtype()))
          throw TypeError(text("[data] the tensor requires a gradient, and ", value.dtype(),
                               " has none; expected a floating dtype"));
        if (m && m->grad.defined() && (m->grad.shape() != value.shape() || m->grad.dtype() != value.dtype()))
          throw ValueError(text("[data] got ", value.dtype(), " of shape ", value.shape(), ", but the gradient is ",
                                m->grad.dtype(), " of shape ", m->grad.shape(), "; set grad to None first"));
        if (m && m->grad.defined() && m->grad.device() != value.device())
          throw ValueError(text("[data] got a tensor on ", value.device(), ", but the gradient is on ",
                                m->grad.device(), "; set grad to None first"));
        TensorImpl& to = *x.impl();
        const TensorImpl& from = *value.impl();
        // Graphs that are there already saved other numbers, and may expect a gradient of another shape.
        from.storage->version = std::max(from.storage->version, to.storage->version) + 1;
        if (m && (to.shape != from.shape || to.dtype != from.dtype || to.storage->device != from.storage->device))
          m->accumulator = nullptr;
        to.storage = from.storage;
        to.offset = from.offset;
        to.shape = from.shape;
        to.strides = from.strides;
        to.count = from.count;
        to.dtype = from.dtype;
        to.contiguous = from.contiguous;
        to.rebased = from.rebased;
      },
      "x"_a, "value"_a);
  m.def("bump_version", &autograd::note_inplace);
}

}  // namespace pydl::python
