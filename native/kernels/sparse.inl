// Sparse layer: one broadcast and G multiply-adds for each weight. Activations of G vectors of documents stand side by
// side, so a weight's input is one row of G vectors.
//
// Rows are stored in order of rising length. All rows of one length run through the same unrolled code: no loop counter
// for each weight and no branch whose outcome varies (rows of a pruned layer have 0 to 10 weights, so a mispredicted
// end of row would cost as much as the row). Sums run in stored order, one chain a document, whatever the tile: the
// score of a document does not depend on the batch it stands in.

template <class V, int G, int scale>
PRUNUS_INLINE void add_weight(const Weight* weight, const char* in, typename V::Reg* sum) {
    uint32_t offset;
    const typename V::Reg value = V::weight(weight, offset);
    const float* x = reinterpret_cast<const float*>(in + static_cast<size_t>(offset) * scale);
    PRUNUS_UNROLL
    for (int g = 0; g < G; ++g) sum[g] = V::fma(value, V::load(x + g * V::lanes), sum[g]);
}

// Where the pass over a layer stands.
struct Cursor {
    const Weight* weight;
    const float* bias;
    float* out;
};

template <class V, int G, int scale, int length, class Out>
PRUNUS_INLINE void short_rows(Cursor& at, uint32_t count, const char* in, const Out& finish) {
    for (; count != 0; --count) {
        typename V::Reg sum[G];
        const typename V::Reg bias = V::splat(*at.bias++);
        for (int g = 0; g < G; ++g) sum[g] = bias;
        PRUNUS_UNROLL
        for (int i = 0; i < length; ++i) add_weight<V, G, scale>(at.weight + i, in, sum);
        at.weight += length;
        finish.store(sum, at.out);
        at.out += Out::stride;
    }
}

template <class V, int G, int scale, int together>
PRUNUS_INLINE void add_to_all(const Weight* weight, uint32_t length, const char* in, typename V::Reg (*sum)[G]) {
    PRUNUS_UNROLL
    for (int r = 0; r < together; ++r) add_weight<V, G, scale>(weight + r * length, in, sum[r]);
}

// Rows of one length, `together` at a time: that many independent chains of multiply-adds for each vector.
template <class V, int G, int scale, int together, class Out>
PRUNUS_INLINE uint32_t long_rows(Cursor& at, uint32_t length, uint32_t count, const char* in, const Out& finish) {
    for (; count >= together; count -= together) {
        typename V::Reg sum[together][G];
        for (int r = 0; r < together; ++r) {
            const typename V::Reg bias = V::splat(at.bias[r]);
            for (int g = 0; g < G; ++g) sum[r][g] = bias;
        }
        const Weight* weight = at.weight;
        uint32_t left = length;
        for (; left >= 4; left -= 4, weight += 4) {
            PRUNUS_UNROLL
            for (int i = 0; i < 4; ++i) add_to_all<V, G, scale, together>(weight + i, length, in, sum);
        }
        for (; left != 0; --left, ++weight) add_to_all<V, G, scale, together>(weight, length, in, sum);
        at.weight += together * length;
        at.bias += together;
        for (int r = 0; r < together; ++r) finish.store(sum[r], at.out + r * Out::stride);
        at.out += together * Out::stride;
    }
    return count;
}

template <class V, int G, int scale, class Out>
PRUNUS_NOINLINE void sparse_layer(const Layer& layer, const Weight* weights, const float* in_floats, float* out) {
    const char* in = reinterpret_cast<const char*>(in_floats);
    const Out finish(layer);
    Cursor at{weights, layer.bias, out};
    for (const Rows* run = layer.runs; run != layer.runs + layer.run_count; ++run) {
        uint32_t count = run->count;
        switch (run->length) {
#define PRUNUS_SHORT(n)                                    \
    case n:                                                \
        short_rows<V, G, scale, n>(at, count, in, finish); \
        break;
            PRUNUS_SHORT(0)
            PRUNUS_SHORT(1)
            PRUNUS_SHORT(2)
            PRUNUS_SHORT(3)
            PRUNUS_SHORT(4)
            PRUNUS_SHORT(5)
            PRUNUS_SHORT(6)
            PRUNUS_SHORT(7)
            PRUNUS_SHORT(8)
            PRUNUS_SHORT(9)
            PRUNUS_SHORT(10)
            PRUNUS_SHORT(11)
            PRUNUS_SHORT(12)
#undef PRUNUS_SHORT
            default:
                if (G < 4) count = long_rows<V, G, scale, G == 1 ? 4 : 2>(at, run->length, count, in, finish);
                long_rows<V, G, scale, 1>(at, run->length, count, in, finish);
        }
    }
}

// The last layer: one output, its weights as one sparse row. Four partial sums, so that a batch of one is not a single
// chain of multiply-adds. Writes `documents` scores to `out`.
template <class V, int G, int scale>
PRUNUS_NOINLINE void last_layer(const Layer& layer, const Weight* weights, const float* in_floats, uint32_t documents,
                                float* out) {
    const char* in = reinterpret_cast<const char*>(in_floats);
    typename V::Reg sum[4][G];
    for (int p = 0; p < 4; ++p)
        for (int g = 0; g < G; ++g) sum[p][g] = V::splat(p == 0 ? layer.bias[0] : 0.0f);
    uint32_t left = layer.run_count == 0 ? 0 : layer.runs[0].length;
    const Weight* weight = weights;
    for (; left >= 4; left -= 4, weight += 4) {
        PRUNUS_UNROLL
        for (int p = 0; p < 4; ++p) add_weight<V, G, scale>(weight + p, in, sum[p]);
    }
    PRUNUS_UNROLL
    for (uint32_t p = 0; p < 3; ++p)
        if (p < left) add_weight<V, G, scale>(weight + p, in, sum[p]);
    for (int g = 0; g < G; ++g) {
        typename V::Reg score = V::add(V::add(sum[0][g], sum[1][g]), V::add(sum[2][g], sum[3][g]));
        score = V::min(V::splat(layer.upper), V::max(V::splat(layer.lower), score));
        if (layer.sigmoid) score = sigmoid<V>(score);
        const uint32_t first = static_cast<uint32_t>(g * V::lanes);
        V::store_first(out + first, score, documents - first);
    }
}
