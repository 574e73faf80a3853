// The tape. A Node is one recorded op: the edges to the nodes that made its inputs, what its gradient needs, and how to
// compute it. Nodes are numbered as they are made, so a graph is in topological order by construction and the engine
// needs no sort.
//
// record(name, inputs, outputs, f) puts a node on the tape where gradients are wanted. f(node, d_out, d_in) fills
// d_in[i] for every i with node.wants(i); gradients may keep the broadcast shape and the promoted dtype of the op: the
// engine undoes both. d_out[i] may be undefined where nothing flowed back (only for nodes of several outputs).
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "core/small_vector.h"
#include "core/tensor.h"

namespace pydl::autograd {

// A misuse of the graph: second backward, a saved tensor that was overwritten. Python sees ValueError and RuntimeError
// in one.
struct AutogradError : Error {
  using Error::Error;
};

class Node;
using Hook = std::function<Tensor(const Tensor&)>;
using Hooks = std::map<int64_t, Hook>;  // by number, in order of registration

struct Meta : AutogradMetaBase {
  bool requires_grad = false;  // a leaf that wants a gradient
  bool retains_grad = false;   // not a leaf, keeps its gradient all the same
  Ref<Node> node;              // what made this tensor; null for a leaf
  int output = 0;              // which of its outputs
  Tensor grad;
  TensorImpl* const owner;       // whose this is
  Node* accumulator = nullptr;   // a leaf's node, owned by the graphs that use it
  std::shared_ptr<Hooks> hooks;  // shared with the node's OutputMeta: they outlive the tensor
  explicit Meta(TensorImpl* owner) : owner(owner) {}
  Meta(const Meta&) = delete;
  Meta& operator=(const Meta&) = delete;
  ~Meta() override;
  static void* operator new(size_t bytes);
  static void operator delete(void* p, size_t bytes);
};

inline Meta* meta(const Tensor& t) { return static_cast<Meta*>(t.impl()->autograd.get()); }
Meta& require_meta(const Tensor& t);
inline bool requires_grad(const Tensor& t) {
  const Meta* m = t.defined() ? meta(t) : nullptr;
  return m && (m->requires_grad || m->node);
}
inline bool is_leaf(const Tensor& t) { return !meta(t) || !meta(t)->node; }

int64_t add_hook(const Tensor& t, Hook hook);
void remove_hook(const Tensor& t, int64_t id);

bool grad_enabled();
class GradMode {  // sets recording on or off for a scope
 public:
  explicit GradMode(bool enabled);
  ~GradMode();

 private:
  bool before_;
};
void set_grad_enabled(bool enabled);

struct Edge {
  Ref<Node> node;
  int output = 0;
};

struct OutputMeta {
  Dims shape;
  DType dtype = DType::float32;
  Device device;
  TensorImpl* tensor = nullptr;  // borrowed, while it lives: a leaf's or a retained gradient goes there
  std::shared_ptr<Hooks> hooks;
};

class Node : public RefCounted {
 public:
  virtual ~Node() = default;
  virtual const char* name() const = 0;
  virtual void backward(const Tensor* d_out, Tensor* d_in) = 0;
  virtual void release_saved() {}
  bool wants(size_t i) const { return static_cast<bool>(edges[i].node); }

  uint64_t sequence = 0;  // 0 for leaves, which come last
  bool released = false;
  SmallVector<Edge, 3> edges;
  SmallVector<OutputMeta, 1> outputs;

  static void destroy(Node* node);  // a loop, not a recursion: graphs may be 100,000 nodes deep
  static void* operator new(size_t bytes);
  static void operator delete(void* p, size_t bytes);

 private:
  Node* next_dead_ = nullptr;
};

// While a backward runs: whether somebody looks at the gradient of the node's i-th input itself (a hook, retain_grad, a
// call of grad). Otherwise it only passes through, and the node may send it further by another edge.
bool observed(const Node& node, size_t i);

// A tensor that backward needs. Raises where the tensor was changed in place in between. An output of the node itself
// is kept without its history, so that no cycle arises, and gets it back on the way out.
class Saved {
 public:
  Saved() = default;
  explicit Saved(const Tensor& input) : tensor_(input), version_(input.defined() ? input.storage().version : 0) {}
  static Saved output(const Tensor& t, int index = 0) {
    Saved s(t.alias());
    s.output_ = index;
    return s;
  }
  Tensor get(Node& node) const;

 private:
  Tensor tensor_;
  uint32_t version_ = 0;
  int output_ = -1;
};

template <class F>
class OpNode final : public Node {
 public:
  OpNode(const char* name, F&& f) : name_(name), f_(std::move(f)) {}
  const char* name() const override { return name_; }
  void backward(const Tensor* d_out, Tensor* d_in) override { (*f_)(*this, d_out, d_in); }
  void release_saved() override { f_.reset(); }

 private:
  const char* name_;
  std::optional<F> f_;
};

// True when an op over these inputs goes on the tape.
inline bool recording(std::initializer_list<const Tensor*> inputs) {
  if (!grad_enabled()) return false;
  for (const Tensor* t : inputs)
    if (requires_grad(*t)) return true;
  return false;
}

// To the node that made the input, or to a leaf's own; empty where the input wants no gradient.
Edge edge_from(const char* op, const Tensor& input);
inline void add_edge(Node& node, const Tensor& input) { node.edges.push_back(edge_from(node.name(), input)); }
void add_output(const Ref<Node>& node, const Tensor& output);
// t is from now on what `source` is, or nothing that was recorded: after a change in place.
void take_history(const Tensor& t, const Tensor& source);
void drop_history(const Tensor& t);
uint64_t next_sequence();

inline const Tensor& tensor_of(const Tensor& t) { return t; }
inline const Tensor& tensor_of(const Tensor* t) { return *t; }

template <class Inputs, class Outputs, class F>
void record_all(const char* name, const Inputs& inputs, const Outputs& outputs, F&& f) {
  Ref<Node> node(new OpNode<std::decay_t<F>>(name, std::forward<F>(f)));
  node->sequence = next_sequence();
  for (const auto& t : inputs) add_edge(*node, tensor_of(t));
  for (const auto& t : outputs) add_output(node, tensor_of(t));
}
template <class F>
void record(const char* name, std::initializer_list<const Tensor*> inputs, std::initializer_list<const Tensor*> outputs,
            F&& f) {
  record_all(name, inputs, outputs, std::forward<F>(f));
}
template <class F>
void record(const char* name, std::initializer_list<const Tensor*> inputs, const std::vector<Tensor>& outputs, F&& f) {
  record_all(name, inputs, outputs, std::forward<F>(f));
}
template <class F>
void record(const char* name, const std::vector<Tensor>& inputs, std::initializer_list<const Tensor*> outputs, F&& f) {
  record_all(name, inputs, outputs, std::forward<F>(f));
}

// Before an op changes t in place: throws where autograd forbids it. After it: notes the change.
void check_inplace(const char* op, const Tensor& t, bool will_record);
void note_inplace(const Tensor& t);

}  // namespace pydl::autograd
