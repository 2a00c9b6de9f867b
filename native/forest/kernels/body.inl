// The whole of scoring with trees, written once: included by each file of isa/ inside that file's own namespace, after
// it has defined its vocabulary. Standard headers with inline functions are not allowed here (see engine/packed.hpp).
//
// A block of documents is a vector of bits, B. For each part of the forest: the documents' features become bins
// (Search), the bins' bits become a mask for each threshold (thermometer.inl), the masks become the bits of leaf codes
// (Op), and tables turn codes into values (Lookup).

// clang-format off: each uses what stands in those before it
#include "walk.inl"
#include "thermometer.inl"
// clang-format on

// `unit`: bytes for each unit of an operand. An operation is one load, taken apart with shifts: with four loads of 16
// bits an operation took 10 % longer, for it is loads and stores that there are most of. Four in a loop: 16 % less for
// blocks of 128.
template <class B, uint32_t unit>
PRUNUS_INLINE void run_ops_in(const Op* op, const Op* end, char* slots) {
    typedef uint64_t Whole __attribute__((may_alias));
    _Pragma("GCC unroll 4") for (; op != end; ++op) {
        uint64_t all = *reinterpret_cast<const Whole*>(op);
        PRUNUS_OPAQUE(all);
        const typename B::Reg mask = B::load(slots + (all & 0xffff) * unit);
        const typename B::Reg a = B::load(slots + (all >> 16 & 0xffff) * unit);
        const typename B::Reg b = B::load(slots + (all >> 32 & 0xffff) * unit);
        B::store(slots + (all >> 48) * unit, B::blend(mask, a, b));
    }
}

template <class B>
PRUNUS_NOINLINE void run_ops(const Op* op, const Op* end, char* slots, bool eighths) {
    if (eighths)
        run_ops_in<B, B::bytes / 8>(op, end, slots);
    else
        run_ops_in<B, B::bytes>(op, end, slots);
}

// The rows of a block; the last document stands in for those that are not there. `used`, the documents that are read
// and summed, is their number rounded up to what the instruction set takes at a time; what stands in a slot's bits
// beyond is of no matter to the others.
struct Rows {
    const float* first;
    size_t stride;
    uint32_t count, used;
    PRUNUS_INLINE const float* operator()(uint32_t document) const {
        return first + (document < count ? document : count - 1) * stride;
    }
};

// Fill the masks of a part.
template <class B, class V>
PRUNUS_INLINE void fill_masks(const PackedForest& forest, const Part& part, Rows rows, float* raw, char* slots) {
    const Search* search = part.searches;
    const Member* member = part.members;
    for (const Load *load = part.loads, *end = load + part.load_count; load != end; ++load) {
        V::template columns<B::documents>(rows, load->feature, raw);
        for (const Search* last = part.searches + load->search_end; search != last; ++search) {
            const float* x = raw + static_cast<size_t>(search->row) * B::documents;
            V::template bins<B::documents>(*search, x, rows.used, slots + slot_planes * B::bytes);
            thermometer<B>(slots + slot_planes * B::bytes, search->levels, search->count,
                           slots + static_cast<size_t>(search->slot) * B::bytes);
        }
        for (const Member* last = part.members + load->member_end; member != last; ++member) {
            const float* x = raw + static_cast<size_t>(member->row) * B::documents;
            const Category& category = forest.walk.categories[member->category];
            char* out = slots + static_cast<size_t>(member->slot) * B::bytes;
            for (uint32_t byte = 0; 8 * byte < rows.used; ++byte) {
                uint32_t bits = 0;
                for (uint32_t i = 0; i < 8; ++i)
                    bits |= static_cast<uint32_t>(in_category(category, x[V::element(8 * byte + i)])) << i;
                out[byte] = static_cast<char>(bits);
            }
        }
    }
}

// Code of a document's leaf.
template <class B>
PRUNUS_INLINE uint32_t code_of(const Lookup& lookup, const char* slots, uint32_t document) {
    uint32_t code = 0;
    for (uint32_t b = 0; b < lookup.planes; ++b) {
        const uint8_t byte =
            static_cast<uint8_t>(slots[static_cast<size_t>(lookup.plane[b]) * B::bytes + document / 8]);
        code |= static_cast<uint32_t>(byte >> document % 8 & 1) << b;
    }
    return code;
}

// Run a block, and call after(part, group number) when the root planes of a group are there.
template <class B, class V, class After>
PRUNUS_INLINE void run_block(const PackedForest& forest, Rows rows, char* scratch, After after) {
    float* raw = reinterpret_cast<float*>(scratch);
    char* slots = scratch + B::documents * (4 * sizeof(float) + sizeof(double));
    B::store(slots + slot_zeros * B::bytes, B::zeros());
    B::store(slots + slot_ones * B::bytes, B::ones());
    for (const Part *part = forest.parts, *end = part + forest.part_count; part != end; ++part) {
        fill_masks<B, V>(forest, *part, rows, raw, slots);
        const Op* op = part->ops;
        for (uint32_t g = part->first_group; g < part->last_group; ++g) {
            const Op* op_end = part->ops + part->op_end[g - part->first_group];
            run_ops<B>(op, op_end, slots, part->eighths);
            op = op_end;
            after(g, slots);
        }
    }
}

// Score one block. `sums` has the documents in the order of V::place.
template <class B, class V>
PRUNUS_NOINLINE void score_block(const PackedForest& forest, Rows rows, float* out, void* memory) {
    char* scratch = static_cast<char*>(memory);
    double* sums = reinterpret_cast<double*>(scratch + B::documents * 4 * sizeof(float));
    for (uint32_t i = 0; i < rows.used; ++i) sums[i] = forest.base;
    run_block<B, V>(forest, rows, scratch, [&](uint32_t g, const char* slots) {
        V::template add_values<B>(forest, g, slots, rows.used, sums);
    });
    for (uint32_t i = 0; i < rows.count; ++i) out[i] = static_cast<float>(sums[V::place(i)]);
}

template <class B, class V>
PRUNUS_NOINLINE void leaves_of_block(const PackedForest& forest, Rows rows, int32_t* out, void* memory) {
    run_block<B, V>(forest, rows, static_cast<char*>(memory), [&](uint32_t g, const char* slots) {
        for (uint32_t t = forest.groups[g].first; t < forest.groups[g].last; ++t) {
            const Lookup& lookup = forest.lookups[t];
            for (uint32_t i = 0; i < rows.count; ++i)
                out[static_cast<size_t>(i) * forest.trees + t] =
                    forest.leaf_of[lookup.table + code_of<B>(lookup, slots, i)];
        }
    });
}

// The values of a group, whatever the width of its codes.
template <class B, class V>
PRUNUS_INLINE void add_any_values(const PackedForest& forest, uint32_t g, const char* slots, uint32_t used,
                                  double* sums) {
    const Group& group = forest.groups[g];
    for (uint32_t i = 0; i < used; ++i) {
        int32_t sum = 0, fine_sum = 0;
        for (uint32_t t = group.first; t < group.last; ++t) {
            const Lookup& lookup = forest.lookups[t];
            const uint32_t place = lookup.table + code_of<B>(lookup, slots, i);
            sum += forest.coarse[place];
            if (forest.fine != nullptr) fine_sum += forest.fine[place];
        }
        double& score = sums[V::place(i)];
        score += static_cast<double>(sum) * group.scale;
        if (forest.fine != nullptr) score += static_cast<double>(fine_sum) * group.fine_scale;
    }
}

PRUNUS_INLINE void walk_one(const PackedForest& forest, const float* x, float* out, uint32_t* row) {
    *out = forest.walk.narrow != nullptr ? walk_score(forest, forest.walk.narrow, x, row)
                                         : walk_score(forest, forest.walk.wide, x, row);
}
PRUNUS_INLINE void walk_one(const PackedForest& forest, const float* x, int32_t* out, uint32_t* row) {
    if (forest.walk.narrow != nullptr)
        walk_leaves(forest, forest.walk.narrow, x, out, row);
    else
        walk_leaves(forest, forest.walk.wide, x, out, row);
}

template <class B, class V>
PRUNUS_INLINE void one_block(const PackedForest& forest, Rows rows, float* out, void* scratch) {
    score_block<B, V>(forest, rows, out, scratch);
}
template <class B, class V>
PRUNUS_INLINE void one_block(const PackedForest& forest, Rows rows, int32_t* out, void* scratch) {
    leaves_of_block<B, V>(forest, rows, out, scratch);
}

// Full blocks, then the smallest that holds the rest, or a walk for each document where fewer are left than pay.
// `outputs`: entries of `out` for each document.
template <class V, class Out>
PRUNUS_INLINE void run_batch(const PackedForest& forest, const float* X, size_t n, Out* out, size_t outputs,
                             void* scratch) {
    while (n > 0) {
        size_t done = forest.part_count == 0 || n < V::fewest ? 0 : V::block(forest, X, n, out, scratch);
        if (done == 0) {
            walk_one(forest, X, out, static_cast<uint32_t*>(scratch));
            done = 1;
        }
        X += done * forest.features;
        out += done * outputs;
        n -= done;
    }
}

// What an instruction set's entry points to; see ForestIsa.
template <class V>
void score(const PackedForest& forest, const float* X, size_t n, float* out, void* scratch) noexcept {
    run_batch<V>(forest, X, n, out, 1, scratch);
}

template <class V>
void leaves(const PackedForest& forest, const float* X, size_t n, int32_t* out, void* scratch) noexcept {
    run_batch<V>(forest, X, n, out, forest.trees, scratch);
}
