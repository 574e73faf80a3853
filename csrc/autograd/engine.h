// The engine: runs a recorded graph backwards. Knows nothing of ops but the four it is given.
#pragma once
#include <functional>
#include <vector>

#include "autograd/node.h"

namespace pydl::autograd {

// What the engine needs of the ops; set once when they are loaded.
struct EngineOps {
  Tensor (*add)(const Tensor&, const Tensor&);
  void (*add_inplace)(const Tensor& dst, const Tensor& src);    // not recorded
  void (*add_to_shared)(const Tensor& dst, const Tensor& src);  // the same where other threads may be adding to dst
  Tensor (*sum_to)(const Tensor&, const Dims& shape);           // undoes broadcasting
  Tensor (*cast)(const Tensor&, DType);
  Tensor (*clone)(const Tensor&);
  Tensor (*ones_like)(const Tensor&);
};
void set_engine_ops(const EngineOps& ops);

// Told of every gradient that an op has computed: the op's name and number, for which of its inputs. For the backward
// passes of the calling thread, until it is set to an empty function; what it throws ends the pass.
using Observer = std::function<void(const char* op, uint64_t sequence, size_t input, const Tensor& grad)>;
void set_observer(Observer observer);

struct BackwardOptions {
  bool retain_graph = false;
  bool create_graph = false;
};

// Adds the gradients of sum(roots[i] * grads[i]) to every leaf's grad. An undefined grads[i] means ones, for one
// element.
void backward(const std::vector<Tensor>& roots, const std::vector<Tensor>& grads, BackwardOptions options);
void backward(const Tensor& root);  // of one element, with all defaults

// The gradients with respect to `inputs` alone; leaves' grad stays as it was. Undefined where an input was not reached.
std::vector<Tensor> grad(const std::vector<Tensor>& roots, const std::vector<Tensor>& grads,
                         const std::vector<Tensor>& inputs, BackwardOptions options);

}  // namespace pydl::autograd
