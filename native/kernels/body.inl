// The whole of a score, written once: included by each file of isa/ inside that file's own namespace, after it has
// defined its vector vocabulary. Standard headers with inline functions are not allowed here (see packed.hpp).

// clang-format off: each uses what stands in those before it
#include "math.inl"
#include "ahead.inl"
#include "input.inl"
#include "rows.inl"
#include "sparse.inl"
#include "dense.inl"
#include "int8.inl"
#include "int8_block.inl"
#include "int8_few.inl"
// clang-format on

template <class V, int G>
PRUNUS_NOINLINE void sigmoid_rows(float* rows, uint32_t count) {
    for (size_t i = 0; i < static_cast<size_t>(count) * G; ++i)
        V::store(rows + i * V::lanes, sigmoid<V>(V::load(rows + i * V::lanes)));
}

// Whether outputs, not documents, stand in the lanes of a dense int8 layer: for one document, and for up to four where
// vectors are wider than that.
template <class V, bool alone>
constexpr bool outputs_in_lanes() {
    return alone || (V::lanes == 4 && V::Widest::lanes > 4);
}

template <class V, int G, Stream stream, bool alone, class Out>
PRUNUS_INLINE void run_layer(const Layer& layer, const float* in, float* out) {
    constexpr int scale = stream == wide_stream ? G : G * V::lanes;
    if (layer.int8 != nullptr && layer.int8->dense) {
        if constexpr (outputs_in_lanes<V, alone>()) {
            using W = typename V::Widest;
            constexpr int documents = alone ? 1 : 4;
            dense_int8_layer_of_few<V, W, documents, typename Out::template OfFew<W, documents>>(layer, in, out);
        } else {
            dense_int8_layer<V, G, Out>(layer, in, out);
        }
    } else if (layer.int8 != nullptr)
        block_int8_layer<V, G, scale, Out>(layer, layer.int8->weights[stream], in, out);
    else if (layer.sparse)
        sparse_layer<V, G, scale, Out>(layer, layer.weights[stream], in, out);
    else if constexpr (alone)
        dense_layer_of_one<V>(layer, in, out);
    else
        dense_layer<V, G, Out>(layer, in, out);
}

// Several outputs: rows of the tile to out [documents][outputs].
template <int width>
PRUNUS_NOINLINE void hand_out(const Packed& net, const float* rows, uint32_t documents, float* out) {
    for (uint32_t o = 0; o < net.outputs; ++o) {
        const float* row = rows + static_cast<size_t>(net.output_rows[o]) * width;
        for (uint32_t d = 0; d < documents; ++d) out[static_cast<size_t>(d) * net.outputs + o] = row[d];
    }
}

// Score up to G * V::lanes documents, and ask for `next_documents` behind them. Activations go to and fro between the
// two halves of `scratch` and stay in cache. `alone`: there is one document, and V has four lanes.
template <class V, int G, Stream stream, bool alone>
bool score_tile(const Packed& net, const float* X, uint32_t documents, uint32_t next_documents, float* out,
                float* scratch) {
    constexpr int scale = stream == wide_stream ? G : G * V::lanes;
    float *in = scratch, *next = scratch + static_cast<size_t>(net.rows_even) * G * V::lanes;
    bool found;
    if constexpr (alone) {
        using W = typename V::Widest;
        static_assert(G * V::lanes == 4, "one document stands in four lanes");
        float* room = scratch + (static_cast<size_t>(net.rows_even) * 4 + W::lanes - 1) / W::lanes * W::lanes;
        found = input_stage_of_one<V, W>(net, X, room, in);
    } else {
        Ahead ahead(net, X + static_cast<size_t>(documents) * net.features, next_documents);
        found = input_stage<V, G>(net, X, documents, ahead, next, in);
    }
    const auto swap = [&] {
        float* other = in;
        in = next;
        next = other;
    };
    enum { floats, bytes, quads } held = floats;  // what `in` holds
    for (const Layer* layer = net.layers; layer != net.layers + net.layer_count; ++layer) {
        if (layer->int8 != nullptr && held != quads) {
            if (held == bytes)
                quads_of_bytes<V, G>(*layer->int8, in, next);
            else
                quads_of_floats<V, G>(*layer->int8, in, next);
            swap();
        }
        held = layer->form == Form::floats ? floats : bytes;
        if (alone && layer->int8 == nullptr && !layer->sparse) held = floats;  // see dense_layer_of_one
        if (outputs_in_lanes<V, alone>() && layer->int8 != nullptr && layer->int8->dense && held == bytes) held = quads;
        if (layer->form == Form::bytes)
            run_layer<V, G, stream, alone, ByteRows<V, G, false>>(*layer, in, next);
        else if (layer->form == Form::clamped_bytes)
            run_layer<V, G, stream, alone, ByteRows<V, G, true>>(*layer, in, next);
        else
            run_layer<V, G, stream, alone, FloatRows<V, G>>(*layer, in, next);
        if (layer->sigmoid) sigmoid_rows<V, G>(next, layer->outputs);
        swap();
    }
    if (net.output_rows == nullptr)
        last_layer<V, G, scale>(net.last, net.last.weights[stream], in, documents, out);
    else
        hand_out<G * V::lanes>(net, in, documents, out);
    return found;
}

// Score fewer documents than a full tile: the smallest tile of whole vectors that holds them.
template <class V>
bool score_vectors(const Packed& net, const float* X, uint32_t documents, float* out, float* scratch) {
    switch ((documents + V::lanes - 1) / V::lanes) {
        case 1:
            return score_tile<V, 1, wide_stream, false>(net, X, documents, 0, out, scratch);
        case 2:
            return score_tile<V, 2, wide_stream, false>(net, X, documents, 0, out, scratch);
        case 3:
            return score_tile<V, 3, wide_stream, false>(net, X, documents, 0, out, scratch);
        default:
            return score_tile<V, 4, wide_stream, false>(net, X, documents, 0, out, scratch);
    }
}

using ScoreRest = bool (*)(const Packed&, const float*, uint32_t, float*, float*);

// Score n documents: full tiles, then `score_rest` for what is less than one.
template <class V, ScoreRest score_rest>
bool score_batch(const Packed& net, const float* X, size_t n, float* out, float* scratch) {
    bool found = false;
    const size_t full = static_cast<size_t>(net.tile) * V::lanes;
    for (; n >= full; n -= full, X += full * net.features, out += full * net.outputs) {
        const uint32_t documents = static_cast<uint32_t>(full);
        const uint32_t behind = static_cast<uint32_t>(n - full < full ? n - full : full);
        if (net.tile == 4)
            found |= score_tile<V, 4, wide_stream, false>(net, X, documents, behind, out, scratch);
        else
            found |= score_tile<V, 2, wide_stream, false>(net, X, documents, behind, out, scratch);
    }
    if (n != 0) found |= score_rest(net, X, static_cast<uint32_t>(n), out, scratch);
    return found;
}
