// Block-sparse layer of int8 weights: one broadcast quad of weights, and one load for each vector of documents, for
// each stored block. Rows in order of rising length, as in the sparse layer.

// int32s of a stored block: its weights, then the offset of its inputs.
constexpr uint32_t block_size = int8_halves + 1;

template <class V, int G, int scale>
PRUNUS_INLINE void add_block(const int32_t* block, const char* in, typename V::Int* sum) {
    using E = typename V::Bytes;
    uint32_t offset;
    const typename E::Quads w = E::block(block, offset);
    const float* x = reinterpret_cast<const float*>(in + static_cast<size_t>(offset) * scale);
    PRUNUS_UNROLL
    for (int g = 0; g < G; ++g) sum[g] = E::dot(sum[g], E::quads(E::load(x + g * V::lanes)), w);
}

// Where the pass over a layer stands.
struct BlockCursor {
    const int32_t* block;
    const float *scale, *bias;
    float* out;
};

template <class V, int G, int scale, int length, class Out>
PRUNUS_INLINE void short_block_rows(BlockCursor& at, uint32_t count, const char* in, const Out& finish) {
    for (; count != 0; --count) {
        typename V::Int sum[G];
        for (int g = 0; g < G; ++g) sum[g] = V::Bytes::zero();
        PRUNUS_UNROLL
        for (int i = 0; i < length; ++i) add_block<V, G, scale>(at.block + i * block_size, in, sum);
        at.block += length * block_size;
        finish_sums<V, G>(sum, *at.scale++, *at.bias++, finish, at.out);
        at.out += Out::stride;
    }
}

// Rows of one length, `together` at a time: that many independent chains for each vector.
template <class V, int G, int scale, int together, class Out>
PRUNUS_INLINE uint32_t long_block_rows(BlockCursor& at, uint32_t length, uint32_t count, const char* in,
                                       const Out& finish) {
    const size_t row = static_cast<size_t>(length) * block_size;
    for (; count >= together; count -= together) {
        typename V::Int sum[together][G];
        for (int r = 0; r < together; ++r)
            for (int g = 0; g < G; ++g) sum[r][g] = V::Bytes::zero();
        const int32_t* block = at.block;
        uint32_t left = length;
        for (; left >= 4; left -= 4) {
            PRUNUS_UNROLL
            for (int i = 0; i < 4; ++i, block += block_size)
                for (int r = 0; r < together; ++r)
                    add_block<V, G, scale>(block + static_cast<size_t>(r) * row, in, sum[r]);
        }
        for (; left != 0; --left, block += block_size)
            for (int r = 0; r < together; ++r) add_block<V, G, scale>(block + static_cast<size_t>(r) * row, in, sum[r]);
        for (int r = 0; r < together; ++r)
            finish_sums<V, G>(sum[r], at.scale[r], at.bias[r], finish, at.out + r * Out::stride);
        at.block += together * row;
        at.scale += together;
        at.bias += together;
        at.out += together * Out::stride;
    }
    return count;
}

template <class V, int G, int scale, class Out>
PRUNUS_NOINLINE void block_int8_layer(const Layer& layer, const int32_t* blocks, const float* in_floats, float* out) {
    const char* in = reinterpret_cast<const char*>(in_floats);
    const Out finish(layer);
    BlockCursor at{blocks, layer.int8->scale, layer.bias, out};
    for (const Rows* run = layer.runs; run != layer.runs + layer.run_count; ++run) {
        uint32_t count = run->count;
        switch (run->length) {
#define PRUNUS_SHORT(n)                                          \
    case n:                                                      \
        short_block_rows<V, G, scale, n>(at, count, in, finish); \
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
#undef PRUNUS_SHORT
            default:
                if (G < 4) count = long_block_rows<V, G, scale, G == 1 ? 4 : 2>(at, run->length, count, in, finish);
                long_block_rows<V, G, scale, 1>(at, run->length, count, in, finish);
        }
    }
}
