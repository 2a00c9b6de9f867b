// Layers of int8 weights. Inputs stand as quads: the bytes of four inputs of one document in each 32-bit lane, so one
// instruction (or, without VNNI, a few) multiplies a broadcast quad of weights with them and adds the four products to
// the sums of a whole vector of documents. A quad of G vectors takes the memory of one row of floats.

// Quads from the rows of bytes that the layer before has left.
template <class V, int G>
PRUNUS_NOINLINE void quads_of_bytes(const Int8Weights& layer, const float* in, float* out) {
    using E = typename V::Bytes;
    const uint32_t* row = layer.input_rows;
    for (uint32_t quad = 0; quad < layer.quads; ++quad, row += 4, out += G * V::lanes) {
        const auto input = [&](int i) { return E::load(in + static_cast<size_t>(row[i]) * V::lanes); };
        typename E::Int x[4];
        E::template interleave<G>(input(0), input(1), input(2), input(3), x);
        for (int g = 0; g < G; ++g) E::store(out + g * V::lanes, x[g]);
    }
}

// Quads from rows of floats, which the input stage and a sigmoid leave. A pass of its own: at those places its time is
// lost beside that of the int8 layer that follows.
template <class V, int G>
PRUNUS_NOINLINE void quads_of_floats(const Int8Weights& layer, const float* in, float* out) {
    using E = typename V::Bytes;
    const typename V::Reg scale = V::splat(layer.step_scale), zero = V::splat(layer.step_zero),
                          most = V::splat(layer.most);
    const uint32_t* row = layer.input_rows;
    for (uint32_t quad = 0; quad < layer.quads; ++quad, row += 4, out += G * V::lanes) {
        for (int g = 0; g < G; ++g) {
            const auto input = [&](int i) {
                const float* x = in + (static_cast<size_t>(row[i]) * G + static_cast<size_t>(g)) * V::lanes;
                return V::steps(V::min(most, V::load(x)), scale, zero);
            };
            E::store(out + g * V::lanes, E::quads_of(input(0), input(1), input(2), input(3)));
        }
    }
}

// Sums to y = fma(float(sum), scale, bias), and on.
template <class V, int G, class Out>
PRUNUS_INLINE void finish_sums(const typename V::Int* sum, float scale, float bias, const Out& finish, float* out) {
    const typename V::Reg s = V::splat(scale), b = V::splat(bias);
    typename V::Reg y[G];
    PRUNUS_UNROLL
    for (int g = 0; g < G; ++g) y[g] = V::fma_once(V::to_float(sum[g]), s, b);
    finish.store(y, out);
}

// Dense: blocks of `height` outputs by G vectors of documents are summed in registers.
template <class V, int G, int height, class Out>
PRUNUS_INLINE void dense_int8_block(const Layer& layer, uint32_t first, const float* in, const Out& finish,
                                    float* out) {
    using E = typename V::Bytes;
    constexpr uint32_t step = int8_panel * int8_halves;
    const Int8Weights& int8 = *layer.int8;
    const int32_t* weight =
        int8.weights[wide_stream] + static_cast<size_t>(first / int8_panel) * int8.quads * step + first % int8_panel;
    typename E::Int sum[height][G];
    PRUNUS_UNROLL
    for (int o = 0; o < height; ++o)
        for (int g = 0; g < G; ++g) sum[o][g] = E::zero();
    for (uint32_t quad = 0; quad < int8.quads; ++quad, weight += step, in += G * V::lanes) {
        typename E::Quads w[height];
        PRUNUS_UNROLL
        for (int o = 0; o < height; ++o) w[o] = E::weights(weight + o, int8_panel);
        PRUNUS_UNROLL
        for (int g = 0; g < G; ++g) {
            const typename E::Quads x = E::quads(E::load(in + g * V::lanes));
            PRUNUS_UNROLL
            for (int o = 0; o < height; ++o) sum[o][g] = E::dot(sum[o][g], x, w[o]);
        }
    }
    PRUNUS_UNROLL
    for (int o = 0; o < height; ++o)
        finish_sums<V, G>(sum[o], int8.scale[first + o], layer.bias[first + o], finish, out + o * Out::stride);
}

// Whole blocks only: outputs past the last one have weights of 0, and nobody reads them.
template <class V, int G, class Out>
PRUNUS_NOINLINE void dense_int8_layer(const Layer& layer, const float* in, float* out) {
    constexpr int height = V::Bytes::height(G), least = V::Bytes::height(4);
    static_assert(int8_panel % height == 0 && height % least == 0, "a block must not straddle two panels");
    const Out finish(layer);
    uint32_t first = 0;
    for (; first + height <= layer.outputs; first += height, out += height * Out::stride)
        dense_int8_block<V, G, height>(layer, first, in, finish, out);
    for (; first < layer.outputs; first += least, out += least * Out::stride)
        dense_int8_block<V, G, least>(layer, first, in, finish, out);
}
