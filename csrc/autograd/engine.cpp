// A heap ordered by the nodes' numbers takes the place of a topological sort: when a node is taken out, everything that
// uses its outputs was made after it and has run. Gradients of one node add up in the order in which they arrive, which
// depends on the graph alone.
#include "autograd/engine.h"

#include <algorithm>
#include <memory>
#include <unordered_map>

namespace pydl::autograd {
namespace {

EngineOps g_ops;

struct Task {
  Ref<Node> node;
  SmallVector<Tensor, 1> grads;  // one per output of the node
};

struct Target {  // where grad() wants the gradient of one of its inputs
  Node* node;
  int output;
  Tensor* result;
};

thread_local const std::vector<Target>* t_targets = nullptr;  // of the running grad(), or null

thread_local std::unique_ptr<const Observer> t_observer;

class Run {
 public:
  Run(BackwardOptions options, std::vector<Target> targets, bool accumulate)
      : options_(options), targets_(std::move(targets)), accumulate_(accumulate) {}

  void set_needed(std::unordered_map<const Node*, bool> needed) { needed_ = std::move(needed); }
  void seed(const Edge& edge, Tensor grad) { deliver(edge.node, edge.output, std::move(grad)); }

  void execute() {
    const std::vector<Target>* before = t_targets;
    t_targets = &targets_;
    struct Restore {
      const std::vector<Target>* before;
      ~Restore() { t_targets = before; }
    } restore{before};
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), later_);
      const HeapItem item = heap_.back();
      heap_.pop_back();
      Task task = std::move(tasks_[item.slot]);
      if (tabled_) table_.erase(task.node.get());
      free_.push_back(item.slot);
      run_node(task);
    }
  }

 private:
  struct HeapItem {
    uint64_t sequence;
    uint64_t order;
    size_t slot;
  };
  struct Later {
    bool operator()(const HeapItem& a, const HeapItem& b) const {
      return a.sequence != b.sequence ? a.sequence < b.sequence : a.order > b.order;
    }
  };

  void deliver(const Ref<Node>& node, int output, Tensor grad) {
    if (!needed_.empty() && !needed_.count(node.get())) return;
    const OutputMeta& out = node->outputs[static_cast<size_t>(output)];
    if (grad.shape() != out.shape) grad = g_ops.sum_to(grad, out.shape);
    if (grad.dtype() != out.dtype) grad = g_ops.cast(grad, out.dtype);
    size_t slot = waiting(node.get());
    if (slot == kNone) slot = enqueue(node);
    Tensor& sum = tasks_[slot].grads[static_cast<size_t>(output)];
    if (!sum.defined())
      sum = std::move(grad);
    else if (!options_.create_graph && owned(sum))
      g_ops.add_inplace(sum, grad);
    else
      sum = g_ops.add(sum, grad);
  }

  // The slot of a node that waits, or kNone: by a scan, and by a table from the first time on that many wait.
  size_t waiting(Node* node) const {
    if (tabled_) {
      const auto found = table_.find(node);
      return found == table_.end() ? kNone : found->second;
    }
    for (const HeapItem& item : heap_)
      if (tasks_[item.slot].node.get() == node) return item.slot;
    return kNone;
  }

  size_t enqueue(const Ref<Node>& node) {
    size_t slot = tasks_.size();
    if (free_.empty()) {
      tasks_.emplace_back();
    } else {
      slot = free_.back();
      free_.pop_back();
    }
    tasks_[slot] = Task{node, SmallVector<Tensor, 1>(node->outputs.size())};
    heap_.push_back({node->sequence, order_++, slot});
    std::push_heap(heap_.begin(), heap_.end(), later_);
    if (tabled_) {
      table_.emplace(node.get(), slot);
    } else if (heap_.size() > kScanned) {
      tabled_ = true;
      for (const HeapItem& item : heap_) table_.emplace(tasks_[item.slot].node.get(), item.slot);
    }
    return slot;
  }

  // Nobody else can see this tensor's memory.
  static bool alone(const Tensor& t) {
    return t.impl()->use_count() == 1 && t.impl()->storage->use_count() == 1 && t.storage().writable;
  }
  static bool owned(const Tensor& t) { return alone(t) && t.contiguous(); }

  void apply_hooks(Task& task) {
    for (size_t i = 0; i < task.grads.size(); ++i) {
      const OutputMeta& out = task.node->outputs[i];
      Tensor& grad = task.grads[i];
      if (!grad.defined()) continue;
      Meta* m = out.tensor ? static_cast<Meta*>(out.tensor->autograd.get()) : nullptr;
      const std::shared_ptr<Hooks>& shared = m && m->hooks ? m->hooks : out.hooks;
      if (shared) {
        const Hooks hooks = *shared;  // a hook may remove itself
        for (const auto& [id, hook] : hooks) {
          Tensor changed = hook(grad);
          if (!changed.defined()) continue;
          if (changed.shape() != grad.shape())
            throw ValueError(
                text("[hook] returned a gradient of shape ", changed.shape(), ", expected ", grad.shape()));
          grad = changed.dtype() == grad.dtype() ? changed : g_ops.cast(changed, grad.dtype());
        }
      }
      if (accumulate_ && m && m->retains_grad && task.node->sequence != 0) add_to_leaf(*m, grad);
    }
  }

  // A leaf's grad shares its memory with nothing else. Another thread may set it while a copy or a sum is under way.
  void add_to_leaf(Meta& m, Tensor& grad) {
    if (!m.grad.defined()) {
      const bool kept = alone(grad) && (grad.contiguous() || grad.channels_last());
      const Tensor fresh = kept && (options_.create_graph || !requires_grad(grad)) ? grad : g_ops.clone(grad);
      if (!m.grad.defined()) {
        m.grad = fresh;
        return;
      }
    }
    const Tensor before = m.grad;
    if (options_.create_graph || requires_grad(before) || !before.contiguous() || !before.storage().writable) {
      const Tensor sum = g_ops.add(before, grad);
      if (m.grad.impl() == before.impl())
        m.grad = sum;
      else
        add_to_leaf(m, grad);
    } else {
      g_ops.add_to_shared(before, grad);
    }
  }

  void run_node(Task& task) {
    apply_hooks(task);
    Node& node = *task.node;
    for (Target& target : targets_)
      if (target.node == &node) *target.result = task.grads[static_cast<size_t>(target.output)];
    if (node.sequence == 0) {
      TensorImpl* leaf = node.outputs[0].tensor;
      if (!leaf) return;
      if (leaf->shape != node.outputs[0].shape || leaf->dtype != node.outputs[0].dtype ||
          leaf->storage->device != node.outputs[0].device)
        throw AutogradError(text("[backward] a leaf of shape ", node.outputs[0].shape,
                                 " was given data of another shape, dtype or device after the forward pass"));
      if (accumulate_) add_to_leaf(*static_cast<Meta*>(leaf->autograd.get()), task.grads[0]);
      return;
    }
    if (!needed_.empty() && !needs_inputs(node)) return;
    if (node.released)
      throw AutogradError(text("[backward] the graph's saved tensors were freed by an earlier backward (at '",
                               node.name(), "'); call the first one with retain_graph=True"));
    SmallVector<Tensor, 3> d_in(node.edges.size());
    node.backward(task.grads.data(), d_in.data());
    if (t_observer)
      for (size_t i = 0; i < d_in.size(); ++i)
        if (node.wants(i) && d_in[i].defined()) (*t_observer)(node.name(), node.sequence, i, d_in[i]);
    if (!options_.retain_graph) {
      node.released = true;
      node.release_saved();
    }
    task.grads.clear();
    for (size_t i = 0; i < d_in.size(); ++i) {
      const Edge& edge = node.edges[i];
      Tensor grad = std::move(d_in[i]);
      if (edge.node && grad.defined()) deliver(edge.node, edge.output, std::move(grad));
    }
  }

  bool needs_inputs(const Node& node) const {
    for (const Edge& edge : node.edges)
      if (edge.node && needed_.count(edge.node.get())) return true;
    return false;
  }

  BackwardOptions options_;
  std::vector<Target> targets_;
  bool accumulate_;
  Later later_;
  static constexpr size_t kNone = SIZE_MAX, kScanned = 16;
  SmallVector<HeapItem, 4> heap_;
  SmallVector<Task, 4> tasks_;
  SmallVector<size_t, 4> free_;
  bool tabled_ = false;
  std::unordered_map<Node*, size_t> table_;       // node to slot, where tabled_
  std::unordered_map<const Node*, bool> needed_;  // empty: every node is
  uint64_t order_ = 0;
};

// The nodes from which a target can be reached: visited in the order of their numbers, inputs come first.
std::unordered_map<const Node*, bool> nodes_towards(const std::vector<Ref<Node>>& roots,
                                                    const std::vector<Target>& targets) {
  std::unordered_map<const Node*, bool> seen;
  std::vector<const Node*> order;
  for (const Ref<Node>& root : roots)
    if (seen.try_emplace(root.get(), false).second) order.push_back(root.get());
  for (size_t i = 0; i < order.size(); ++i)
    for (const Edge& edge : order[i]->edges)
      if (edge.node && seen.try_emplace(edge.node.get(), false).second) order.push_back(edge.node.get());
  std::sort(order.begin(), order.end(), [](const Node* a, const Node* b) { return a->sequence < b->sequence; });
  std::unordered_map<const Node*, bool> needed;
  for (const Node* node : order) {
    bool need = false;
    for (const Target& target : targets) need = need || target.node == node;
    for (const Edge& edge : node->edges) need = need || (edge.node && needed.count(edge.node.get()));
    if (need) needed.emplace(node, true);
  }
  return needed;
}

Tensor checked_seed(const Tensor& root, const Tensor& grad, size_t i) {
  if (!requires_grad(root))
    throw AutogradError(text("[backward] tensor ", i, " of shape ", root.shape(),
                             " does not require a gradient and has no history; was it made under no_grad()?"));
  if (!grad.defined()) {
    if (root.count() != 1)
      throw AutogradError(text("[backward] a gradient can be left out only for one element, got shape ", root.shape(),
                               "; reduce it (for example with sum()) or pass the gradient"));
    return g_ops.ones_like(root);
  }
  if (grad.shape() != root.shape())
    throw ValueError(text("[backward] gradient ", i, " has shape ", grad.shape(), ", expected ", root.shape()));
  if (grad.device() != root.device())
    throw ValueError(text("[backward] gradient ", i, " is on ", grad.device(), ", expected ", root.device()));
  return grad;
}

Edge edge_of(const Tensor& t) { return edge_from("backward", t); }

}  // namespace

bool observed(const Node& node, size_t i) {
  const Edge& edge = node.edges[i];
  if (!edge.node) return false;
  const OutputMeta& out = edge.node->outputs[static_cast<size_t>(edge.output)];
  const Meta* m = out.tensor ? static_cast<const Meta*>(out.tensor->autograd.get()) : nullptr;
  if ((out.hooks && !out.hooks->empty()) || (m && (m->retains_grad || (m->hooks && !m->hooks->empty())))) return true;
  if (t_targets)
    for (const Target& target : *t_targets)
      if (target.node == edge.node.get() && target.output == edge.output) return true;
  return false;
}

void set_observer(Observer observer) {
  t_observer = observer ? std::make_unique<const Observer>(std::move(observer)) : nullptr;
}

void set_engine_ops(const EngineOps& ops) { g_ops = ops; }

void backward(const std::vector<Tensor>& roots, const std::vector<Tensor>& grads, BackwardOptions options) {
  GradMode mode(options.create_graph);
  Run run(options, {}, true);
  for (size_t i = 0; i < roots.size(); ++i) run.seed(edge_of(roots[i]), checked_seed(roots[i], grads[i], i));
  run.execute();
}

void backward(const Tensor& root) {
  GradMode mode(false);
  Run run({}, {}, true);
  run.seed(edge_of(root), checked_seed(root, Tensor(), 0));
  run.execute();
}

std::vector<Tensor> grad(const std::vector<Tensor>& roots, const std::vector<Tensor>& grads,
                         const std::vector<Tensor>& inputs, BackwardOptions options) {
  GradMode mode(options.create_graph);
  std::vector<Tensor> results(inputs.size());
  std::vector<Edge> edges, input_edges;
  std::vector<Target> targets;
  std::vector<Ref<Node>> root_nodes;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!requires_grad(inputs[i]))
      throw AutogradError(text("[grad] input ", i, " of shape ", inputs[i].shape(), " does not require a gradient"));
    input_edges.push_back(edge_of(inputs[i]));
    targets.push_back({input_edges.back().node.get(), input_edges.back().output, &results[i]});
  }
  std::vector<Tensor> seeds;
  for (size_t i = 0; i < roots.size(); ++i) {
    seeds.push_back(checked_seed(roots[i], grads[i], i));
    edges.push_back(edge_of(roots[i]));
    root_nodes.push_back(edges.back().node);
  }
  auto needed = nodes_towards(root_nodes, targets);
  if (needed.empty()) return results;
  Run run(options, std::move(targets), false);
  run.set_needed(std::move(needed));
  for (size_t i = 0; i < roots.size(); ++i) run.seed(edges[i], seeds[i]);
  run.execute();
  return results;
}

}  // namespace pydl::autograd
