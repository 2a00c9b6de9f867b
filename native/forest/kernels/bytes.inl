// Up to 64 documents at a time, each a byte: see Pair. For AVX-512, whose masks choose among the bytes of a vector; and
// whose vectors hold eight masks of 64 documents, so that eight thresholds are done at once.

typedef long long Int64 __attribute__((may_alias, aligned(8)));

// What fill_masks needs to know of a block whose masks are words.
struct Words {
    static constexpr uint32_t documents = 64, bytes = 8;
};

PRUNUS_INLINE __m512i all_lanes(const char* word) {
    return _mm512_set1_epi64(*reinterpret_cast<const Int64*>(word));
}

// As the general thermometer; lane i stands for low <= i. Up to seven words behind the last mask are written over.
template <>
PRUNUS_NOINLINE void thermometer<Words>(const char* planes, uint32_t levels, uint32_t count, char* out) {
    const __m512i ones = _mm512_set1_epi64(-1), lane = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    // What the bits below say of low <= i, joined with that of one bit more: plane < bit of i, or equal and `below`.
    const auto joined = [&](__m512i below, const char* plane, int bit) {
        const __m512i of_lane = _mm512_maskz_mov_epi64(_mm512_test_epi64_mask(lane, _mm512_set1_epi64(bit)), ones);
        return _mm512_ternarylogic_epi64(all_lanes(plane), of_lane, below, 0x8e);
    };
    uint32_t done = (levels - 1) % 3 + 1;
    __m512i le = ones;
    for (uint32_t b = 0; b < done; ++b) le = joined(le, planes + (done - 1 - b) * 8, 1 << b);
    _mm512_storeu_si512(out, le);
    for (; done < levels; done += 3) {
        const char* p = planes + done * 8;
        le = joined(joined(joined(ones, p + 16, 1), p + 8, 2), p, 4);
        // From the last to the first, since the masks of the bits done before stand at the start of the same memory.
        for (uint32_t j = (count - 1) >> (levels - done); j > 0; --j)
            _mm512_storeu_si512(out + j * 64, _mm512_ternarylogic_epi64(all_lanes(out + (j - 1) * 8),
                                                                        all_lanes(out + j * 8), le, 0xf8));
        _mm512_storeu_si512(out, _mm512_and_si512(all_lanes(out), le));
    }
}

PRUNUS_NOINLINE void run_pairs(const Pair* pair, const Pair* end, char* base) {
    typedef uint64_t Whole __attribute__((may_alias, aligned(4)));
    typedef uint32_t Half __attribute__((may_alias));
    const auto at = [&](uint64_t eighths) { return base + (eighths & 0xffff) * 8; };
    const auto mask = [&](uint64_t eighths) { return *reinterpret_cast<const Word64*>(at(eighths)); };
    _Pragma("GCC unroll 2") for (; pair != end; ++pair) {
        uint64_t x = *reinterpret_cast<const Whole*>(pair);
        uint32_t y = *reinterpret_cast<const Half*>(&pair->c);
        PRUNUS_OPAQUE(x);
        PRUNUS_OPAQUE(y);
        const __m512i a = _mm512_load_si512(at(x >> 32)), b = _mm512_load_si512(at(x >> 48)),
                      c = _mm512_load_si512(at(y));
        const __m512i below = _mm512_mask_mov_epi8(c, mask(x >> 16), b);
        _mm512_store_si512(at(y >> 16), _mm512_mask_mov_epi8(below, mask(x), a));
    }
}

// Call after(group number, roots): vector i of the roots has the leaves reached in the group's tree i.
template <class V, class After>
PRUNUS_INLINE void run_bytes(const PackedForest& forest, Rows rows, char* scratch, After after) {
    float* raw = reinterpret_cast<float*>(scratch);
    char* vectors = scratch + Words::documents * (4 * sizeof(float) + sizeof(double));
    char* slots = vectors + byte_vectors * 64;
    for (uint32_t leaf = 0; leaf < forest.bytes.leaves; ++leaf)
        _mm512_store_si512(vectors + leaf * 64, _mm512_set1_epi8(static_cast<char>(leaf)));
    for (const Part *part = forest.parts, *end = part + forest.part_count; part != end; ++part) {
        *reinterpret_cast<Word64*>(slots + slot_zeros * 8) = 0;
        fill_masks<Words, V>(forest, *part, rows, raw, slots);
        for (uint32_t i = 0; i < part->negated * 8; i += 64)
            _mm512_store_si512(slots + part->negated * 8 + i,
                               _mm512_andnot_si512(_mm512_load_si512(slots + i), _mm512_set1_epi64(-1)));
        const Pair* pair = part->pairs;
        for (uint32_t g = part->first_group; g < part->last_group; ++g) {
            const Pair* pair_end = part->pairs + part->pair_end[g - part->first_group];
            run_pairs(pair, pair_end, vectors);
            pair = pair_end;
            after(g, vectors + byte_roots * 64);
        }
    }
}

// The values of a group.
template <uint32_t width>
PRUNUS_NOINLINE void add_byte_group(const PackedForest& forest, uint32_t g, const char* roots, double* sums) {
    const Group& group = forest.groups[g];
    for (int part = 0; part < (forest.fine == nullptr ? 1 : 2); ++part) {
        __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                          _mm512_setzero_si512()};
        const uint16_t* const* words = forest.bytes.words + 2 * part;
        for (uint32_t t = group.first; t < group.last; ++t) {
            const uint32_t table = forest.bytes.table[t];
            add_values_64<width>(_mm512_load_si512(roots + (t - group.first) * 64), words[0] + table, words[1] + table,
                                 sum);
        }
        for (int i = 0; i < 4; ++i) add_scaled(sum[i], part == 0 ? group.scale : group.fine_scale, sums + 16 * i);
    }
}

template <class V>
PRUNUS_NOINLINE void bytes_block(const PackedForest& forest, Rows rows, float* out, void* memory) {
    char* scratch = static_cast<char*>(memory);
    double* sums = reinterpret_cast<double*>(scratch + Words::documents * 4 * sizeof(float));
    for (uint32_t i = 0; i < rows.used; ++i) sums[i] = forest.base;
    run_bytes<V>(forest, rows, scratch, [&](uint32_t g, const char* roots) {
        switch (forest.bytes.width[g]) {
            case 5:
                return add_byte_group<5>(forest, g, roots, sums);
            case 6:
                return add_byte_group<6>(forest, g, roots, sums);
            case 7:
                return add_byte_group<7>(forest, g, roots, sums);
            default:
                return add_byte_group<8>(forest, g, roots, sums);
        }
    });
    for (uint32_t i = 0; i < rows.count; ++i) out[i] = static_cast<float>(sums[place_of(i)]);
}

template <class V>
PRUNUS_NOINLINE void bytes_block(const PackedForest& forest, Rows rows, int32_t* out, void* memory) {
    run_bytes<V>(forest, rows, static_cast<char*>(memory), [&](uint32_t g, const char* roots) {
        const Group& group = forest.groups[g];
        for (uint32_t t = group.first; t < group.last; ++t)
            for (uint32_t i = 0; i < rows.count; ++i)
                out[static_cast<size_t>(i) * forest.trees + t] =
                    static_cast<uint8_t>(roots[(t - group.first) * 64 + i]);
    });
}
