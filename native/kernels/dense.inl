// Dense layer: blocks of `height` outputs by G vectors of documents are summed in registers, one broadcast weight and
// one load of the inputs shared by the block. Sums run over rising inputs, as in the sparse layer.

template <class V, int G, int height>
PRUNUS_INLINE void dense_block(const Layer& layer, uint32_t first, const float* in, float* out) {
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
    const R lower = V::splat(layer.lower), upper = V::splat(layer.upper);
    PRUNUS_UNROLL
    for (int o = 0; o < height; ++o) store_activated<V, G>(sum[o], lower, upper, out + o * width);
}

// The outputs that are left after full blocks: a block of exactly that height.
template <class V, int G, int height>
struct LastBlock {
    static PRUNUS_INLINE void run(uint32_t rest, const Layer& layer, uint32_t first, const float* in, float* out) {
        if (rest == height)
            dense_block<V, G, height>(layer, first, in, out);
        else
            LastBlock<V, G, height - 1>::run(rest, layer, first, in, out);
    }
};
template <class V, int G>
struct LastBlock<V, G, 0> {
    static PRUNUS_INLINE void run(uint32_t, const Layer&, uint32_t, const float*, float*) {}
};

template <class V, int G>
PRUNUS_NOINLINE void dense_layer(const Layer& layer, const float* in, float* out) {
    constexpr int height = V::dense_height(G);
    static_assert(dense_panel % height == 0, "a block must not straddle two panels");
    uint32_t first = 0;
    for (; first + height <= layer.outputs; first += height, out += height * G * V::lanes)
        dense_block<V, G, height>(layer, first, in, out);
    LastBlock<V, G, height - 1>::run(layer.outputs - first, layer, first, in, out);
}
