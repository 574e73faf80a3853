#include "autograd/node.h"

#include <atomic>

#include "core/allocator.h"

namespace pydl::autograd {
namespace {

thread_local bool t_grad_enabled = true;
std::atomic<uint64_t> g_sequence{1};

// The node of a leaf: its backward is the engine's business (it adds to the leaf's grad).
class LeafNode final : public Node {
 public:
  explicit LeafNode(const Tensor& leaf) : leaf_(leaf) {}
  ~LeafNode() override {
    if (meta(leaf_)->accumulator == this) meta(leaf_)->accumulator = nullptr;
  }
  const char* name() const override { return "leaf"; }
  void backward(const Tensor*, Tensor*) override {}

 private:
  Tensor leaf_;
};

}  // namespace

bool grad_enabled() { return t_grad_enabled; }
void set_grad_enabled(bool enabled) { t_grad_enabled = enabled; }
GradMode::GradMode(bool enabled) : before_(t_grad_enabled) { t_grad_enabled = enabled; }
GradMode::~GradMode() { t_grad_enabled = before_; }

uint64_t next_sequence() { return g_sequence.fetch_add(1, std::memory_order_relaxed); }

// The node that made a tensor must not write to it once it holds something else, or is gone.
static void unlink(Meta& m) {
  if (!m.node) return;
  OutputMeta& out = m.node->outputs[static_cast<size_t>(m.output)];
  if (out.tensor == m.owner) out.tensor = nullptr;
  m.node = Ref<Node>();
}

Meta::~Meta() { unlink(*this); }

Meta& require_meta(const Tensor& t) {
  if (!t.impl()->autograd) t.impl()->autograd = std::make_unique<Meta>(t.impl());
  return *meta(t);
}

int64_t add_hook(const Tensor& t, Hook hook) {
  static int64_t next = 0;
  if (!requires_grad(t)) throw AutogradError("[register_hook] the tensor does not require a gradient");
  Meta& m = *meta(t);
  if (!m.hooks) m.hooks = std::make_shared<Hooks>();
  if (m.node) m.node->outputs[static_cast<size_t>(m.output)].hooks = m.hooks;
  m.hooks->emplace(next, std::move(hook));
  return next++;
}

void remove_hook(const Tensor& t, int64_t id) {
  if (meta(t) && meta(t)->hooks) meta(t)->hooks->erase(id);
}

void* Meta::operator new(size_t bytes) { return allocate(bytes); }
void Meta::operator delete(void* p, size_t bytes) { deallocate(p, bytes); }
void* Node::operator new(size_t bytes) { return allocate(bytes); }
void Node::operator delete(void* p, size_t bytes) { deallocate(p, bytes); }

void Node::destroy(Node* node) {
  static thread_local bool running = false;
  static thread_local Node* pending = nullptr;
  if (running) {
    node->next_dead_ = pending;
    pending = node;
    return;
  }
  running = true;
  delete node;
  while (pending) {
    Node* next = pending;
    pending = next->next_dead_;
    delete next;
  }
  running = false;
}

Tensor Saved::get(Node& node) const {
  if (tensor_.defined() && tensor_.storage().version != version_)
    throw AutogradError(
        text("[", node.name(), "] a tensor of shape ", tensor_.shape(),
             " that backward needs was changed in place after the forward pass; change a copy instead"));
  if (output_ < 0 || !grad_enabled()) return tensor_;
  Tensor out = tensor_.alias();
  Meta& m = require_meta(out);
  m.node = Ref<Node>(&node);
  m.output = output_;
  return out;
}

Edge edge_from(const char* op, const Tensor& input) {
  Edge edge;
  Meta* m = input.defined() ? meta(input) : nullptr;
  if (!m) return edge;
  if (m->node) {
    if (input.impl()->rebased != input.storage().rebased)
      throw AutogradError(text("[", op, "] an input of shape ", input.shape(),
                               " shares memory with a tensor that was changed in place by a recorded op; "
                               "make the view again after the change, or change a copy"));
    edge.node = m->node;
    edge.output = m->output;
  } else if (m->requires_grad) {
    if (!m->accumulator || m->accumulator->use_count() == 0) {  // 0: about to be destroyed
      Ref<Node> leaf(new LeafNode(input));
      OutputMeta& out = leaf->outputs.emplace_back();
      out.shape = input.shape();
      out.dtype = input.dtype();
      out.device = input.device();
      out.tensor = input.impl();
      m->accumulator = leaf.get();
      edge.node = leaf;
    } else {
      edge.node = Ref<Node>(m->accumulator);
    }
  }
  return edge;
}

void add_output(const Ref<Node>& node, const Tensor& output) {
  OutputMeta& out = node->outputs.emplace_back();
  if (!output.defined()) return;
  out.shape = output.shape();
  out.dtype = output.dtype();
  out.device = output.device();
  if (!is_float(output.dtype())) return;  // indices and masks have no gradient
  out.tensor = output.impl();
  Meta& m = require_meta(output);
  unlink(m);
  m.node = node;
  m.output = static_cast<int>(node->outputs.size()) - 1;
}

void drop_history(const Tensor& t) {
  Meta* m = meta(t);
  if (!m) return;
  unlink(*m);
  m->requires_grad = false;
  m->hooks.reset();  // they belong to the value that was here before
}

void take_history(const Tensor& t, const Tensor& source) {
  const Ref<Node> node = meta(source)->node;
  const int output = meta(source)->output;
  drop_history(t);
  Meta& m = require_meta(t);
  m.node = node;
  m.output = output;
  node->outputs[static_cast<size_t>(output)].tensor = t.impl();
}

void check_inplace(const char* op, const Tensor& t, bool will_record) {
  if (!t.storage().writable)
    throw ValueError(
        text("[", op, "] the tensor's memory is read-only (it belongs to a read-only array); copy it first"));
  if (!t.contiguous() && t.count() > 0)
    for (int i = 0; i < t.ndim(); ++i)
      if (t.stride(i) == 0 && t.size(i) > 1)
        throw ValueError(
            text("[", op, "] the tensor was broadcast: several of its elements are one in memory; copy it first"));
  if (!grad_enabled()) return;
  const Meta* m = meta(t);
  if (m && m->requires_grad && !m->node)
    throw AutogradError(text("[", op,
                             "] a leaf that requires a gradient can't be changed in place while recording; do it "
                             "under no_grad() or on a detached tensor"));
  if (t.impl()->is_view && (will_record || (m && m->node)))
    throw AutogradError(text("[", op,
                             "] a view can't be changed in place where gradients are recorded; use the form that "
                             "returns a new tensor"));
}

void note_inplace(const Tensor& t) { ++t.storage().version; }

}  // namespace pydl::autograd
