// Layers of int8 weights: their checks, and their packing for the kernels.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>

#include "network.hpp"

namespace prunus {
namespace {

// Bounds of an input's step, so that `most` below exists (the same stand in engine/int8.py).
constexpr float least_scale = 0x1p-64f, largest_scale = 0x1p64f, largest_zero = 0x1p20f;

// An h whose step is about 512: beyond 255 and far inside int32, so that clamping to it changes no byte.
float most_input(const LayerDescription& layer) {
    return (512.0f - layer.input_zero) / layer.input_scale;
}

// Four weights as the 32 bits of a quad, or as the pairs (0, 2) and (1, 3) of 16 bits.
void push_quad(std::vector<int32_t>& out, const int8_t* w, uint32_t halves, size_t even, size_t odd) {
    const auto byte = [&](int i) { return static_cast<uint32_t>(static_cast<uint8_t>(w[i])); };
    const auto pair = [&](int i) {
        return static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint16_t>(w[i])) |
                                    static_cast<uint32_t>(static_cast<uint16_t>(w[i + 2])) << 16);
    };
    if (halves == 1) {
        out[even] = static_cast<int32_t>(byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24);
    } else {
        out[even] = pair(0);
        out[odd] = pair(1);
    }
}

// The four weights of one output for one quad of a dense layer; 0 past the last input.
void dense_quad(const LayerDescription& layer, uint32_t output, uint32_t quad, int8_t* w) {
    for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t k = quad * 4 + i;
        w[i] = k < layer.inputs ? layer.steps[static_cast<size_t>(output) * layer.inputs + k] : int8_t{0};
    }
}

// No output of an int8 layer is larger, before or after its activation.
double largest_output(const LayerDescription& layer) {
    double largest = 0;
    for (uint32_t o = 0; o < layer.outputs; ++o) {
        const size_t begin = layer.sparse ? static_cast<size_t>(layer.indptr[o]) * 4 : size_t{o} * layer.inputs;
        const size_t end = layer.sparse ? static_cast<size_t>(layer.indptr[o + 1]) * 4 : begin + layer.inputs;
        double sum = 0;
        for (size_t i = begin; i < end; ++i) sum += 255.0 * std::abs(static_cast<int>(layer.steps[i]));
        largest = std::max(largest, sum * std::fabs(static_cast<double>(layer.scale[o])) +
                                        std::fabs(static_cast<double>(layer.bias[o])));
    }
    return largest * 1.001;
}

}  // namespace

std::string check_int8(const LayerDescription& layer, const std::string& name) {
    const uint32_t columns = (layer.inputs + 3) / 4;
    if (layer.sparse) {
        const std::string problem = check_pattern(layer, columns, name);
        if (!problem.empty()) return problem;
        for (size_t i = 0; i < layer.stored; ++i)
            for (uint32_t j = 0; j < 4; ++j)
                if (static_cast<uint32_t>(layer.indices[i]) * 4 + j >= layer.inputs && layer.steps[4 * i + j] != 0)
                    return name + " has a weight past its last input";
    }
    const size_t n = layer.sparse ? layer.stored * 4 : static_cast<size_t>(layer.inputs) * layer.outputs;
    if (std::any_of(layer.steps, layer.steps + n, [](int8_t w) { return w == -128; }))
        return name + " holds the weight -128; expected -127 to 127";
    if (!std::all_of(layer.scale, layer.scale + layer.outputs, [](float x) { return std::isfinite(x); }))
        return name + " holds NaN or infinity; expected finite scales";
    // Written so that a NaN fails.
    if (!(layer.input_scale >= least_scale && layer.input_scale <= largest_scale))
        return name + " has input_scale " + std::to_string(layer.input_scale) + "; expected 2^-64 to 2^64";
    if (!(std::fabs(layer.input_zero) <= largest_zero))
        return name + " has input_zero " + std::to_string(layer.input_zero) + "; expected at most 2^20";
    return {};
}

Layer Network::pack_int8(const LayerDescription& d, std::vector<uint32_t>& position) {
    Layer layer{};
    layer.inputs = d.inputs;
    layer.outputs = d.outputs;
    layer.sparse = d.sparse;
    layer.sigmoid = d.activation == Activation::sigmoid;
    const float infinity = std::numeric_limits<float>::infinity();
    layer.lower = d.activation == Activation::relu || d.activation == Activation::relu6 ? 0.0f : -infinity;
    layer.upper = d.activation == Activation::relu6 ? 6.0f : infinity;

    int8_.push_back(std::make_unique<Int8Weights>());
    Int8Weights& int8 = *int8_.back();
    layer.int8 = &int8;
    int8.dense = !d.sparse;
    int8.quads = (d.inputs + 3) / 4;
    int8.step_scale = d.input_scale;
    int8.step_zero = d.input_zero;
    int8.most = most_input(d);

    std::vector<uint32_t> rows(size_t{int8.quads} * 4, 0);
    std::copy(position.begin(), position.end(), rows.begin());
    indices_.push_back(std::move(rows));
    int8.input_rows = indices_.back().data();

    const auto length = [&](uint32_t o) { return static_cast<uint32_t>(d.indptr[o + 1] - d.indptr[o]); };
    std::vector<uint32_t> order(d.outputs);
    std::iota(order.begin(), order.end(), 0u);
    if (d.sparse)
        std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return length(a) < length(b); });
    const size_t padded = (size_t{d.outputs} + int8_panel - 1) / int8_panel * int8_panel;
    const auto stored = [&](const float* values) {
        std::vector<float> out(padded, 0.0f);
        for (uint32_t place = 0; place < d.outputs; ++place) out[place] = values[order[place]];
        floats_.push_back(std::move(out));
        return floats_.back().data();
    };
    layer.bias = stored(d.bias);
    int8.scale = stored(d.scale);

    const uint32_t halves = isa_.int8_halves;
    if (d.sparse) {
        std::vector<uint32_t> lengths;
        for (uint32_t o : order) lengths.push_back(length(o));
        pack_runs(lengths, layer);
        for (uint32_t stream = 0; stream < stream_count; ++stream) {
            if (stream == narrow_stream && !isa_.has_narrow) continue;
            const uint32_t unit = static_cast<uint32_t>(sizeof(float)) * (stream == wide_stream ? isa_.lanes : 1);
            std::vector<int32_t> words(d.stored * (halves + 1));
            size_t at = 0;
            for (uint32_t o : order)
                for (size_t i = static_cast<size_t>(d.indptr[o]); i < static_cast<size_t>(d.indptr[o + 1]); ++i) {
                    push_quad(words, d.steps + 4 * i, halves, at, at + 1);
                    words[at + halves] = static_cast<int32_t>(static_cast<uint32_t>(d.indices[i]) * unit);
                    at += halves + 1;
                }
            words_.push_back(std::move(words));
            int8.weights[stream] = words_.back().data();
        }
    } else {
        std::vector<int32_t> words(padded * int8.quads * halves, 0);
        for (uint32_t o = 0; o < d.outputs; ++o)
            for (uint32_t quad = 0; quad < int8.quads; ++quad) {
                int8_t w[4];
                dense_quad(d, o, quad, w);
                const size_t even = (size_t{o / int8_panel} * int8.quads + quad) * int8_panel * halves + o % int8_panel;
                push_quad(words, w, halves, even, even + int8_panel);
            }
        words_.push_back(std::move(words));
        int8.weights[wide_stream] = int8.weights[narrow_stream] = words_.back().data();
    }
    position.resize(d.outputs);
    for (uint32_t place = 0; place < d.outputs; ++place) position[order[place]] = place;
    return layer;
}

// Documents up to which a tile of four, some times over, takes less than a tile of one vector. A dense int8 layer has
// its outputs in the lanes in a tile of four, so it pays by the document; every other layer pays by the tile. Cycles
// for each slot, weight or quad of weights, in a tile of four and of one vector, as measured on Zen 4.
uint32_t Network::few_documents(const Description& d) const {
    // Vectors of 16 documents have a tile of 8 beside them (x86_eight.inl), which this reckoning does not know: over 61
    // random networks it put at 8, calls of 8 documents take 0.72 times as long in that tile (median).
    if (int8_.empty() || isa_.lanes > 8) return 4;
    const bool quads = isa_.int8_halves == 1;
    const double vectors = isa_.lanes / 16.0;
    double four = 3.0 * d.slots, vector = 5.0 * d.slots;
    for (const LayerDescription& layer : d.layers) {
        const double weights = static_cast<double>(layer.inputs) * layer.outputs;
        const double stored = layer.sparse ? static_cast<double>(layer.stored) : weights;
        if (layer.int8 && !layer.sparse) {
            four += (quads ? 0.3 : 0.45) / vectors * weights / 4;
            vector += (quads ? 1.15 : 1.65) * weights / 4;
        } else if (layer.int8 || layer.sparse) {
            four += (layer.int8 ? 1.8 : 1.55) * stored;
            vector += (layer.int8 ? 2.6 : 2.05) * stored;
        } else {
            four += 0.58 * weights;
            vector += 1.02 * weights;
        }
    }
    return std::clamp(4 * static_cast<uint32_t>(vector / four), 4u, isa_.lanes);
}

// Let a layer write the bytes that the int8 layer after it reads. The clamp can go where it changes no byte: what lies
// below it has byte 0 (packing saturates), what lies above has byte 255, and no step leaves int32 upwards (downwards it
// may: that converts to the least integer, whose byte is 0).
void Network::hand_on_bytes(Layer& before, const LayerDescription& described, const LayerDescription& after) {
    if (before.sigmoid) return;  // a pass over floats
    before.step_scale = after.input_scale;
    before.step_zero = after.input_zero;
    const auto step = [&](float h) { return std::fmaf(h, after.input_scale, after.input_zero); };
    const bool lower_free = std::isinf(before.lower) || std::rint(step(before.lower)) <= 0;
    const bool upper_free = std::isinf(before.upper) || std::rint(step(before.upper)) >= 255;
    const bool bounded = described.int8 && largest_output(described) * static_cast<double>(after.input_scale) +
                                                   std::fabs(static_cast<double>(after.input_zero)) <
                                               0x1p30;
    before.form = lower_free && upper_free && bounded ? Form::bytes : Form::clamped_bytes;
    before.upper = std::min(before.upper, most_input(after));
}

}  // namespace prunus
