// Dense layer: blocks of `height` outputs by G vectors of documents are summed in registers, one broadcast weight and
// one load of the inputs shared by the block. Sums run over rising inputs, as in the sparse layer.

template <class V, int G, int height, class Out>
PRUNUS_INLINE void dense_block(const Layer& layer, uint32_t first, const float* in, const Out& finish, float* out) {
    using R = typename V::Reg;
    constexpr int width = G * V::lanes;
    const float* weight =
        layer.panels + static_cast<size_t>(first / dense_panel) * layer.inputs * dense_panel + first % dense_panel;
    R sum[height][G];
    PRUNUS_UNROLL
    for (int o = 0; o < height; ++o) {
        const R bias = V::splat(layer.bias[first + o]);
        for (int g = 0; g < G; ++g) sum[o][g] = bias;
    }
    for (uint32_t k = 0; k < layer.inputs; ++k, weight += dense_panel, in += width) {
        R x[G];
        PRUNUS_UNROLL
        for (int g = 0; g < G; ++g) x[g] = V::load(in + g * V::lanes);
        PRUNUS_UNROLL
        for (int o = 0; o < height; ++o) {
            const R w = V::splat(weight[o]);
            PRUNUS_UNROLL
            for (int g = 0; g < G; ++g) sum[o][g] = V::fma(w, x[g], sum[o][g]);
        }
    }
    PRUNUS_UNROLL
    for (int o = 0; o < height; ++o) finish.store(sum[o], out + o * Out::stride);
}

// The outputs that are left after full blocks: a block of exactly that height.
template <class V, int G, int height, class Out>
struct LastBlock {
    static PRUNUS_INLINE void run(uint32_t rest, const Layer& layer, uint32_t first, const float* in, const Out& finish,
                                  float* out) {
        if (rest == height)
            dense_block<V, G, height>(layer, first, in, finish, out);
        else
            LastBlock<V, G, height - 1, Out>::run(rest, layer, first, in, finish, out);
    }
};
template <class V, int G, class Out>
struct LastBlock<V, G, 0, Out> {
    static PRUNUS_INLINE void run(uint32_t, const Layer&, uint32_t, const float*, const Out&, float*) {}
};

template <class V, int G, class Out>
PRUNUS_NOINLINE void dense_layer(const Layer& layer, const float* in, float* out) {
    constexpr int height = V::dense_height(G);
    static_assert(dense_panel % height == 0, "a block must not straddle two panels");
    const Out finish(layer);
    uint32_t first = 0;
    for (; first + height <= layer.outputs; first += height, out += height * Out::stride)
        dense_block<V, G, height>(layer, first, in, finish, out);
    LastBlock<V, G, height - 1, Out>::run(layer.outputs - first, layer, first, in, finish, out);
}

// One document alone: outputs stand in the lanes instead, so no lane is wasted on documents that are not there. V has
// four lanes, and the document's activations are in each of them. Sums run in the same order as above.
template <class V, int panels>
PRUNUS_INLINE void dense_panels_of_one(const Layer& layer, uint32_t first, const float* in, float* out) {
    using R = typename V::Reg;
    constexpr int count = panels * static_cast<int>(dense_panel) / 4;
    const size_t panel_size = static_cast<size_t>(layer.inputs) * dense_panel;
    const float* weight = layer.panels + first / dense_panel * panel_size;
    R sum[count];
    for (int i = 0; i < count; ++i) sum[i] = V::load_any(layer.bias + first + 4 * i);
    for (uint32_t k = 0; k < layer.inputs; ++k, weight += dense_panel, in += 4) {
        const R x = V::load(in);
        PRUNUS_UNROLL
        for (int i = 0; i < count; ++i)
            sum[i] = V::fma(V::load_any(weight + static_cast<size_t>(i / 3) * panel_size + i % 3 * 4), x, sum[i]);
    }
    const R lower = V::splat(layer.lower), upper = V::splat(layer.upper);
    PRUNUS_UNROLL
    for (int i = 0; i < count; ++i, first += 4, out += 16) {
        const R y = V::min(upper, V::max(lower, sum[i]));
        if (first < layer.outputs) V::store(out, V::template spread<0>(y));
        if (first + 1 < layer.outputs) V::store(out + 4, V::template spread<1>(y));
        if (first + 2 < layer.outputs) V::store(out + 8, V::template spread<2>(y));
        if (first + 3 < layer.outputs) V::store(out + 12, V::template spread<3>(y));
    }
}

template <class V>
PRUNUS_NOINLINE void dense_layer_of_one(const Layer& layer, const float* in, float* out) {
    // Three panels are nine chains of multiply-adds: Zen 4 needs eight to fill two pipes of latency four.
    uint32_t first = 0;
    for (; first + 2 * dense_panel < layer.outputs; first += 3 * dense_panel, out += 12 * dense_panel)
        dense_panels_of_one<V, 3>(layer, first, in, out);
    for (; first < layer.outputs; first += dense_panel, out += 4 * dense_panel)
        dense_panels_of_one<V, 1>(layer, first, in, out);
}
