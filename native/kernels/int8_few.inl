// Dense layer of int8 weights for one document, or four: outputs stand in the lanes, so that no lane is wasted on
// documents that are not there, and a weight that is loaded serves every document. Sums are integers: the same as in a
// tile of documents, whatever the order.
//
// V has four lanes and W is the widest vocabulary of the instruction set. Inputs and outputs stand as for every other
// layer of V: a row is a float of each of four documents, a quad four bytes of each; for one document alone, four times
// that document's.

// Outputs in the lanes, a vector for each document, to rows of floats.
template <class V, class W, int documents>
struct FloatsOfFew {
    static constexpr int stride = W::lanes * V::lanes;
    typename W::Reg lower, upper;

    PRUNUS_INLINE explicit FloatsOfFew(const Layer& layer)
        : lower(W::splat(layer.lower)), upper(W::splat(layer.upper)) {}
    PRUNUS_INLINE void store(const typename W::Reg* y, float* out) const {
        alignas(64) float lane[documents][W::lanes];
        for (int d = 0; d < documents; ++d) W::store(lane[d], W::min(upper, W::max(lower, y[d])));
        PRUNUS_UNROLL
        for (int i = 0; i < W::lanes; ++i)
            for (int d = 0; d < V::lanes; ++d) out[i * V::lanes + d] = lane[documents == 1 ? 0 : d][i];
    }
};

// The same to the quads that the int8 layer after it reads: a dense layer keeps its outputs in order.
template <class V, class W, int documents, bool clamped>
struct QuadsOfFew {
    static constexpr int stride = W::lanes / 4 * V::lanes;
    typename W::Reg lower, upper, scale, zero;

    PRUNUS_INLINE explicit QuadsOfFew(const Layer& layer)
        : lower(W::splat(layer.lower)),
          upper(W::splat(layer.upper)),
          scale(W::splat(layer.step_scale)),
          zero(W::splat(layer.step_zero)) {}
    PRUNUS_INLINE void store(const typename W::Reg* y, float* out) const {
        typename W::Int q[4];
        PRUNUS_UNROLL
        for (int d = 0; d < 4; ++d)
            q[d] = d >= documents ? q[0] : W::steps(clamped ? W::min(upper, W::max(lower, y[d])) : y[d], scale, zero);
        W::Bytes::store_quads_of_outputs(out, q[0], q[1], q[2], q[3]);
    }
};

template <class V, class W, int documents, int panels, class Out>
PRUNUS_INLINE float* panels_of_few(const Layer& layer, uint32_t panel, const float* in, const Out& finish, float* out) {
    using E = typename W::Bytes;
    constexpr int vectors = static_cast<int>(int8_panel) / W::lanes, count = panels * vectors;
    constexpr uint32_t step = int8_panel * int8_halves;
    const Int8Weights& int8 = *layer.int8;
    const size_t panel_size = static_cast<size_t>(int8.quads) * step;
    const int32_t* weight = int8.weights[wide_stream] + panel * panel_size;
    typename E::Int sum[count][documents];
    for (int i = 0; i < count; ++i)
        for (int d = 0; d < documents; ++d) sum[i][d] = E::zero();
    for (uint32_t quad = 0; quad < int8.quads; ++quad, weight += step, in += V::lanes) {
        typename E::Quads x[documents];
        PRUNUS_UNROLL
        for (int d = 0; d < documents; ++d) x[d] = E::quads(E::splat_at(in + d));
        PRUNUS_UNROLL
        for (int i = 0; i < count; ++i) {
            const int32_t* at = weight + static_cast<size_t>(i / vectors) * panel_size + i % vectors * W::lanes;
            const typename E::Quads w = E::weights_in_lanes(at, int8_panel);
            PRUNUS_UNROLL
            for (int d = 0; d < documents; ++d) sum[i][d] = E::dot(sum[i][d], x[d], w);
        }
    }
    PRUNUS_UNROLL
    for (int i = 0; i < count; ++i, out += Out::stride) {
        const size_t first = static_cast<size_t>(panel) * int8_panel + static_cast<size_t>(i) * W::lanes;
        const typename W::Reg scale = W::load_any(int8.scale + first), bias = W::load_any(layer.bias + first);
        typename W::Reg y[documents];
        PRUNUS_UNROLL
        for (int d = 0; d < documents; ++d) y[d] = W::fma_once(W::to_float(sum[i][d]), scale, bias);
        finish.store(y, out);
    }
    return out;
}

// Panels in groups of nearly the same number, each at most what the registers hold: that many independent chains.
template <class V, class W, int documents, class Out>
PRUNUS_NOINLINE void dense_int8_layer_of_few(const Layer& layer, const float* in, float* out) {
    constexpr uint32_t vectors = int8_panel / W::lanes, fitting = W::Bytes::sums_of_few(documents) / vectors,
                       most = fitting > 0 ? fitting : 1;
    const Out finish(layer);
    const uint32_t panels = (layer.outputs + int8_panel - 1) / int8_panel, groups = (panels + most - 1) / most;
    for (uint32_t group = 0; group < groups; ++group) {
        const uint32_t begin = panels * group / groups, end = panels * (group + 1) / groups;
        switch (end - begin) {
#define PRUNUS_PANELS(n)                                                                                 \
    case n:                                                                                              \
        if constexpr (n <= most) out = panels_of_few<V, W, documents, n>(layer, begin, in, finish, out); \
        break;
            PRUNUS_PANELS(1)
            PRUNUS_PANELS(2)
            PRUNUS_PANELS(3)
            PRUNUS_PANELS(4)
            PRUNUS_PANELS(5)
            PRUNUS_PANELS(6)
            PRUNUS_PANELS(7)
            PRUNUS_PANELS(8)
#undef PRUNUS_PANELS
        }
    }
}
