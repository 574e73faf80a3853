// Stable sort and top-k of rows, with indices.
//
// Every element becomes an unsigned key whose order is the wanted one (NaN greatest, -0 the same as 0, inverted to
// descend), so one code serves all types. Keys of up to 32 bits carry the index in their lower half: then all are
// distinct and fit 64 bits. A long row is sorted by its keys' bytes from the last to the first (radix sort, which is
// stable), leaving out bytes that all keys share; a short one by insertion. Top-k keeps a heap of the k best.
#include "backend/cpu/convert.h"
#include "backend/kernel_table.h"

namespace pydl {
namespace {

constexpr int64_t kInsertion = 48;    // rows up to this length
constexpr int64_t kSortGrain = 2048;  // elements

// Types of up to 32 bits, in rows of less than 2^32.
struct Packed {
  uint64_t bits;
  static constexpr int kBytes = 4;  // of the key
  PYDL_INLINE Packed() {}
  PYDL_INLINE Packed(uint64_t key, int64_t index) : bits(key << 32 | static_cast<uint64_t>(index)) {}
  PYDL_INLINE int64_t index() const { return static_cast<int64_t>(bits & 0xffffffffu); }
  PYDL_INLINE unsigned byte(int i) const { return bits >> (32 + 8 * i) & 0xffu; }
  PYDL_INLINE bool before(Packed b) const { return bits < b.bits; }
};
struct Pair {
  uint64_t key;
  int64_t at;
  static constexpr int kBytes = 8;
  PYDL_INLINE Pair() {}
  PYDL_INLINE Pair(uint64_t k, int64_t index) : key(k), at(index) {}
  PYDL_INLINE int64_t index() const { return at; }
  PYDL_INLINE unsigned byte(int i) const { return key >> (8 * i) & 0xffu; }
  PYDL_INLINE bool before(Pair b) const { return key < b.key || (key == b.key && at < b.at); }
};

// The bits of a float, U wide with its exponent from bit `mantissa` on, in ascending order.
template <class U>
PYDL_INLINE U float_key(U bits, int mantissa) {
  constexpr int kTop = static_cast<int>(sizeof(U)) * 8 - 1;
  const U sign = static_cast<U>(U(1) << kTop), magnitude = static_cast<U>(bits & static_cast<U>(~sign));
  const U infinity = static_cast<U>(static_cast<U>(~sign) >> mantissa << mantissa);
  if (magnitude > infinity) return static_cast<U>(~U(0));
  if (magnitude == 0) return sign;
  return static_cast<U>(bits & sign ? ~bits : bits | sign);
}

// Items of the elements 0, stride, 2 * stride, ... of a row.
template <class U, class Item, class F>
PYDL_INLINE void make_keys(const void* row, int64_t n, int64_t stride, uint64_t flip, Item* items, F key_of) {
  const U* src = static_cast<const U*>(row);
  const uint64_t all = static_cast<U>(~U(0));
  for (int64_t i = 0; i < n; ++i) {
    items[i] = Item((static_cast<uint64_t>(static_cast<U>(key_of(src[i * stride]))) ^ flip) & all, i);
  }
}

template <class Item>
PYDL_NOINLINE void keys_of(DType dtype, const void* row, int64_t n, int64_t stride, bool inverted, Item* items) {
  const uint64_t flip = inverted ? ~uint64_t{0} : 0;
  const auto same = [](auto x) { return x; };
  switch (dtype) {
    case DType::boolean:
    case DType::uint8:
      return make_keys<uint8_t>(row, n, stride, flip, items, same);
    case DType::int8:
      return make_keys<uint8_t>(row, n, stride, flip, items, [](uint8_t x) { return x ^ 0x80u; });
    case DType::uint16:
      return make_keys<uint16_t>(row, n, stride, flip, items, same);
    case DType::int16:
      return make_keys<uint16_t>(row, n, stride, flip, items, [](uint16_t x) { return x ^ 0x8000u; });
    case DType::uint32:
      return make_keys<uint32_t>(row, n, stride, flip, items, same);
    case DType::int32:
      return make_keys<uint32_t>(row, n, stride, flip, items, [](uint32_t x) { return x ^ 0x80000000u; });
    case DType::uint64:
      return make_keys<uint64_t>(row, n, stride, flip, items, same);
    case DType::int64:
      return make_keys<uint64_t>(row, n, stride, flip, items, [](uint64_t x) { return x ^ uint64_t { 1 } << 63; });
    case DType::float16:
      return make_keys<uint16_t>(row, n, stride, flip, items, [](uint16_t x) { return float_key(x, 10); });
    case DType::bfloat16:
      return make_keys<uint16_t>(row, n, stride, flip, items, [](uint16_t x) { return float_key(x, 7); });
    case DType::float32:
      return make_keys<uint32_t>(row, n, stride, flip, items, [](uint32_t x) { return float_key(x, 23); });
    case DType::float64:
      return make_keys<uint64_t>(row, n, stride, flip, items, [](uint64_t x) { return float_key(x, 52); });
  }
}

template <class Item>
PYDL_INLINE void sort_by_insertion(Item* items, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    const Item moved = items[i];
    int64_t at = i;
    for (; at > 0 && moved.before(items[at - 1]); --at) items[at] = items[at - 1];
    items[at] = moved;
  }
}

// Returns where the sorted items are: in items or in spare, both of size n.
template <class Item>
PYDL_NOINLINE Item* sort_items(Item* items, Item* spare, int64_t n) {
  if (n <= kInsertion) {
    sort_by_insertion(items, n);
    return items;
  }
  int64_t count[Item::kBytes][256];
  __builtin_memset(count, 0, sizeof count);
  for (int64_t i = 0; i < n; ++i) {
    for (int b = 0; b < Item::kBytes; ++b) ++count[b][items[i].byte(b)];
  }
  for (int b = 0; b < Item::kBytes; ++b) {
    if (count[b][items[0].byte(b)] == n) continue;
    int64_t start = 0;
    for (int v = 0; v < 256; ++v) {
      const int64_t size = count[b][v];
      count[b][v] = start;
      start += size;
    }
    for (int64_t i = 0; i < n; ++i) spare[count[b][items[i].byte(b)]++] = items[i];
    Item* sorted = spare;
    spare = items;
    items = sorted;
  }
  return items;
}

// The k first of n items, in order, at the front of items.
template <class Item>
PYDL_NOINLINE void select_items(Item* items, int64_t n, int64_t k) {
  const auto sink = [items](int64_t at, int64_t size) {
    for (int64_t child = 2 * at + 1; child < size; at = child, child = 2 * at + 1) {
      if (child + 1 < size && items[child].before(items[child + 1])) ++child;
      if (!items[at].before(items[child])) return;
      const Item moved = items[at];
      items[at] = items[child];
      items[child] = moved;
    }
  };
  for (int64_t at = k / 2 - 1; at >= 0; --at) sink(at, k);
  for (int64_t i = k; i < n; ++i) {
    if (!items[i].before(items[0])) continue;
    items[0] = items[i];
    sink(0, k);
  }
  for (int64_t size = k - 1; size > 0; --size) {
    const Item moved = items[0];
    items[0] = items[size];
    items[size] = moved;
    sink(0, size);
  }
}

template <class T, class Item>
PYDL_INLINE void pick(const void* row, int64_t stride, const Item* items, int64_t k, void* dst, int64_t dst_stride) {
  for (int64_t i = 0; i < k; ++i) {
    static_cast<T*>(dst)[i * dst_stride] = static_cast<const T*>(row)[items[i].index() * stride];
  }
}
template <class Item>
PYDL_NOINLINE void pick_values(size_t item, const void* row, int64_t stride, const Item* items, int64_t k, void* dst,
                               int64_t dst_stride) {
  switch (item) {
    case 1:
      return pick<uint8_t>(row, stride, items, k, dst, dst_stride);
    case 2:
      return pick<uint16_t>(row, stride, items, k, dst, dst_stride);
    case 4:
      return pick<uint32_t>(row, stride, items, k, dst, dst_stride);
    default:
      return pick<uint64_t>(row, stride, items, k, dst, dst_stride);
  }
}

// Both kernels; a sort is the case k == n.
template <class Item>
void order_rows(const TopKArgs& args, Exec& exec) {
  const int64_t n = args.n, k = args.k, inner = args.inner;
  const size_t item = item_size(args.dtype);
  // The heap wins where few elements enter it.
  const bool selects = k <= n / 16 || (k < n && k <= kInsertion);
  parallel_for(exec, args.outer * inner, 1 + kSortGrain / (n + 1), [&](int64_t begin, int64_t end) {
    Scratch<Item> items(exec, n), spare(exec, selects || n <= kInsertion ? 0 : n);
    Scratch<uint64_t> values(exec, k);  // src may be where values go
    for (int64_t row = begin; row < end; ++row) {
      const int64_t o = row / inner, i = row % inner;
      const char* src = static_cast<const char*>(args.src) + (o * n * inner + i) * static_cast<int64_t>(item);
      keys_of<Item>(args.dtype, src, n, inner, args.largest, items);
      const Item* sorted = items;
      if (selects)
        select_items(items.get(), n, k);
      else
        sorted = sort_items(items.get(), spare.get(), n);
      const int64_t place = o * k * inner + i;
      if (args.values != nullptr) {
        char* dst = static_cast<char*>(args.values) + place * static_cast<int64_t>(item);
        if (args.values == args.src) {
          pick_values(item, src, inner, sorted, k, values.get(), 1);
          for (int64_t j = 0; j < k; ++j) {
            __builtin_memcpy(dst + j * inner * static_cast<int64_t>(item),
                             reinterpret_cast<const char*>(values.get()) + j * static_cast<int64_t>(item), item);
          }
        } else {
          pick_values(item, src, inner, sorted, k, dst, inner);
        }
      }
      if (args.indices != nullptr) {
        for (int64_t j = 0; j < k; ++j) args.indices[place + j * inner] = sorted[j].index();
      }
    }
  });
}

void topk_kernel(const TopKArgs& args, Exec& exec) noexcept {
  if (args.n <= 0 || args.k <= 0) return;
  if (item_size(args.dtype) <= 4 && args.n < int64_t{1} << 32)
    order_rows<Packed>(args, exec);
  else
    order_rows<Pair>(args, exec);
}

void sort_kernel(const SortArgs& args, Exec& exec) noexcept {
  topk_kernel(
      {args.dtype, args.descending, args.n, args.outer, args.n, args.inner, args.src, args.values, args.indices}, exec);
}

}  // namespace
}  // namespace pydl

PYDL_FILL(sort) {
  table.sort = pydl::sort_kernel;
  table.topk = pydl::topk_kernel;
}
