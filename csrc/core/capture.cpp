#include "core/capture.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace pydl {
namespace {

constexpr size_t kTableBytes = 64 << 10, kMostChecks = 512, kCheckBytes = kMostChecks * sizeof(int64_t);

std::atomic<const CaptureHooks*> g_hooks{nullptr};
thread_local Graph *t_current = nullptr, *t_renewing = nullptr;

const CaptureHooks& hooks() {
  const CaptureHooks* found = g_hooks.load(std::memory_order_acquire);
  if (!found) throw NotImplemented("[graph] got the device cpu or no device, expected a CUDA device to capture on");
  return *found;
}

}  // namespace

void set_capture_hooks(const CaptureHooks* hooks) { g_hooks.store(hooks, std::memory_order_release); }

Graph* Graph::current() { return t_current; }
Graph* Graph::renewing() { return t_renewing; }

void refuse_while_capturing(const char* op, const char* what) {
  if (t_current)
    throw ValueError(text("[", op, "] ", what,
                          ", which a step that is being captured can't: its replays run without the CPU; do it before "
                          "or after the step, or do without capture"));
}

Graph::Graph(Device device) : device_(device) {
  if (device.is_cpu()) throw ValueError("[graph] got the device cpu, expected a CUDA device");
  hooks();
}

Graph::~Graph() {
  if (capturing()) abandon();
  if (t_renewing == this) t_renewing = nullptr;
  if (handle_) hooks().destroy(handle_);
}

void Graph::begin() {
  if (state_ != State::fresh)
    throw ValueError("[graph] was captured before, expected a new one; make one for each capture");
  if (t_current || t_renewing) throw ValueError("[graph] this thread captures or replays a graph already");
  handle_ = hooks().begin(device_.index, kTableBytes, &values_, &table_);
  check_device_error("graph");
  state_ = State::capturing;
  t_current = this;
}

void Graph::end() {
  if (!capturing()) throw ValueError("[graph] got the end of a capture that has not begun");
  t_current = nullptr;
  const bool whole = hooks().end(handle_);
  state_ = whole ? State::captured : State::failed;
  for (const auto& [generator, state] : before_) generator->set_state(state);  // nothing was drawn yet
  if (!whole) {
    check_device_error("graph");
    throw ValueError("[graph] the capture failed");
  }
  const std::vector<int64_t> none(kMostChecks, -1);
  hooks().write(handle_, none.data(), kCheckBytes);
  check_device_error("graph");
}

void Graph::abandon() noexcept {
  if (!capturing()) return;
  t_current = nullptr;
  state_ = State::failed;
  hooks().end(handle_);
  char message[8];
  device_hooks()->take_error(message, sizeof message);
  for (const auto& [generator, state] : before_) generator->set_state(state);
}

size_t Graph::slot(size_t bytes) {
  const size_t at = image_.size();
  if (kCheckBytes + at + bytes > kTableBytes)
    throw ValueError("[graph] the step has too many random draws and optimizer steps to be captured in one graph");
  image_.resize(at + (bytes + 15) / 16 * 16);
  return at;
}

uint64_t Graph::reserve(Generator& generator, uint64_t blocks) {
  if (std::none_of(before_.begin(), before_.end(), [&](const auto& b) { return b.first == &generator; }))
    before_.emplace_back(&generator, generator.state());
  const uint64_t seed = generator.seed(), position = generator.reserve(blocks);
  for (const Draw& draw : draws_)
    if (draw.seed == seed && draw.position == position)
      throw ValueError(
          "[graph] two generators of the step are at the same place of the same stream, so their numbers "
          "can't be told apart; seed them differently");
  const GeneratorState state{seed, position};
  const size_t at = slot(sizeof state);
  std::memcpy(image_.data() + at, &state, sizeof state);
  draws_.push_back({&generator, seed, position, blocks, at});
  return position;
}

const GeneratorState* Graph::state_at(uint64_t seed, uint64_t position) const {
  for (const Draw& draw : draws_)
    if (draw.seed == seed && draw.position == position)
      return reinterpret_cast<const GeneratorState*>(table_ + kCheckBytes + draw.at);
  return nullptr;
}

int64_t* Graph::new_check(std::string before, std::string after) {
  if (checks_.size() == kMostChecks) throw ValueError("[graph] the step checks too many indices to be captured");
  checks_.push_back({std::move(before), std::move(after)});
  return reinterpret_cast<int64_t*>(table_) + checks_.size() - 1;
}

const void* Graph::scalars(const std::string& key, const void* values, size_t bytes) {
  if (capturing()) {
    const size_t at = slot(bytes);
    std::memcpy(image_.data() + at, values, bytes);
    scalars_.push_back({key, at, bytes});
    return table_ + kCheckBytes + at;
  }
  if (next_scalars_ == scalars_.size() || scalars_[next_scalars_].key != key)
    throw ValueError(text("[graph] the optimizer's step is another one than was captured (", key,
                          "): its rule, options or parameters have changed; capture anew"));
  const Scalars& known = scalars_[next_scalars_++];
  std::memcpy(image_.data() + known.at, values, known.bytes);
  return nullptr;
}

void Graph::renew() {
  if (!captured()) throw ValueError("[graph] has nothing to replay; capture a step first");
  if (t_current || t_renewing) throw ValueError("[graph] this thread captures or replays a graph already");
  for (const Draw& draw : draws_) {
    const uint64_t seed = draw.generator->seed();
    const GeneratorState state{seed, draw.generator->reserve(draw.blocks)};
    std::memcpy(image_.data() + draw.at, &state, sizeof state);
  }
  next_scalars_ = 0;
  t_renewing = this;
}

void Graph::stop_renewing() noexcept {
  if (t_renewing == this) t_renewing = nullptr;
}

void Graph::launch() {
  if (t_renewing != this) throw ValueError("[graph] has no values for a replay; renew() makes them");
  t_renewing = nullptr;
  if (next_scalars_ != scalars_.size())
    throw ValueError("[graph] an optimizer's step that was captured was not made before the replay; capture anew");
  hooks().replay(handle_, image_.data(), kCheckBytes, image_.size());
  check_device_error("graph");
}

void Graph::check() {
  if (!captured() || checks_.empty()) return;
  std::vector<int64_t> found(checks_.size());
  hooks().read(handle_, found.data(), found.size() * sizeof(int64_t));
  check_device_error("graph");
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] < 0) continue;
    const std::vector<int64_t> none(found.size(), -1);
    hooks().write(handle_, none.data(), none.size() * sizeof(int64_t));
    throw IndexError(text(checks_[i].before, found[i], checks_[i].after));
  }
}

std::vector<Generator*> Graph::generators() const {
  std::vector<Generator*> out;
  for (const auto& known : before_) out.push_back(known.first);
  return out;
}

}  // namespace pydl
