#include "network.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "dispatch.hpp"
#include "scratch.hpp"
#include "threads.hpp"

namespace prunus {
namespace {

constexpr uint32_t max_width = 1u << 16;
constexpr float infinity = std::numeric_limits<float>::infinity();

std::string at(const char* what, size_t index) {
    return std::string(what) + " " + std::to_string(index);
}

bool all_finite(const float* values, size_t n) {
    return std::all_of(values, values + n, [](float x) { return std::isfinite(x); });
}

std::string check_inputs(const Description& d) {
    if (d.features < 1 || d.features > max_width) return std::to_string(d.features) + " features; expected 1 to 65536";
    if (d.slots < 1 || d.slots > max_width) return std::to_string(d.slots) + " input slots; expected 1 to 65536";
    for (uint32_t s = 0; s < d.slots; ++s) {
        if (d.feature[s] < 0 || static_cast<uint32_t>(d.feature[s]) >= d.features)
            return at("slot", s) + " reads feature " + std::to_string(d.feature[s]) + " of " +
                   std::to_string(d.features);
        if (s > 0 && d.feature[s] < d.feature[s - 1])
            return at("slot", s) + " reads an earlier feature than the slot before it";
        if (d.kind[s] >= kind_count) return at("slot", s) + " has the unknown kind " + std::to_string(d.kind[s]);
        for (const float* column : {d.center, d.scale, d.lower, d.upper, d.fill})
            if (!std::isfinite(column[s])) return at("slot", s) + " holds NaN or infinity; expected finite numbers";
        if (d.lower[s] > d.upper[s]) return at("slot", s) + " has lower > upper";
    }
    return {};
}

}  // namespace

std::string check_pattern(const LayerDescription& layer, uint32_t columns, const std::string& name) {
    if (layer.stored > static_cast<size_t>(std::numeric_limits<int32_t>::max()))
        return name + " stores too many weights";
    if (layer.indptr[0] != 0 || static_cast<size_t>(layer.indptr[layer.outputs]) != layer.stored)
        return name + ": indptr must rise from 0 to the number of weights";
    for (uint32_t o = 0; o < layer.outputs; ++o)
        if (layer.indptr[o] > layer.indptr[o + 1]) return name + ": indptr falls at row " + std::to_string(o);
    for (size_t i = 0; i < layer.stored; ++i)
        if (layer.indices[i] < 0 || static_cast<uint32_t>(layer.indices[i]) >= columns)
            return name + ": index " + std::to_string(layer.indices[i]) + " lies outside 0.." +
                   std::to_string(columns - 1);
    return {};
}

namespace {

std::string check_sparse(const LayerDescription& layer, const std::string& name) {
    const std::string problem = check_pattern(layer, layer.inputs, name);
    if (!problem.empty()) return problem;
    if (!all_finite(layer.values, layer.stored)) return name + " holds NaN or infinity; expected finite weights";
    return {};
}

std::string check_layers(const Description& d) {
    if (d.layers.empty() || d.layers.size() > 64) return std::to_string(d.layers.size()) + " layers; expected 1 to 64";
    uint32_t width = d.slots;
    for (size_t number = 0; number < d.layers.size(); ++number) {
        const LayerDescription& layer = d.layers[number];
        const std::string name = at("layer", number);
        if (layer.inputs != width)
            return name + " takes " + std::to_string(layer.inputs) + " inputs; the one before gives " +
                   std::to_string(width);
        if (layer.outputs < 1 || layer.outputs > max_width)
            return name + " has " + std::to_string(layer.outputs) + " outputs; expected 1 to 65536";
        if (static_cast<uint32_t>(layer.activation) > static_cast<uint32_t>(Activation::sigmoid))
            return name + " has an unknown activation";
        if (!all_finite(layer.bias, layer.outputs)) return name + " holds NaN or infinity; expected finite biases";
        if (layer.int8) {
            const std::string problem = check_int8(layer, name);
            if (!problem.empty()) return problem;
        } else if (layer.sparse) {
            const std::string problem = check_sparse(layer, name);
            if (!problem.empty()) return problem;
        } else if (!all_finite(layer.weight, static_cast<size_t>(layer.inputs) * layer.outputs)) {
            return name + " holds NaN or infinity; expected finite weights";
        }
        width = layer.outputs;
    }
    if (d.layers.back().int8) return "the last layer has int8 weights; expected float32";
    if (width != d.outputs)
        return "the last layer gives " + std::to_string(width) + " outputs; expected " + std::to_string(d.outputs);
    return {};
}

// The weights of one output, in rising order of the inputs' positions in the tile.
struct Entry {
    uint32_t position;
    float value;
};

std::vector<Entry> row_of(const LayerDescription& layer, uint32_t output, const std::vector<uint32_t>& position) {
    std::vector<Entry> row;
    if (layer.sparse) {
        for (int32_t i = layer.indptr[output]; i < layer.indptr[output + 1]; ++i)
            row.push_back({position[static_cast<size_t>(layer.indices[i])], layer.values[i]});
    } else {
        for (uint32_t k = 0; k < layer.inputs; ++k)
            row.push_back({position[k], layer.weight[static_cast<size_t>(output) * layer.inputs + k]});
    }
    std::sort(row.begin(), row.end(), [](const Entry& a, const Entry& b) { return a.position < b.position; });
    return row;
}

}  // namespace

std::string Network::check(const Description& description) {
    std::string problem = check_inputs(description);
    return problem.empty() ? check_layers(description) : problem;
}

Network::Network(const Description& description, const Isa& isa)
    : isa_(isa), allow_missing_(description.allow_missing, description.allow_missing + description.features) {
    // position[i]: row of the tile where input i of the next layer stands. Slots and the outputs of sparse layers are
    // stored in an order of their own (by kind, by length), so every layer's inputs are looked up here.
    std::vector<uint32_t> position;
    pack_inputs(description, position);
    uint32_t rows[2] = {description.slots, raw_rows()};
    uint32_t widest_pair = 0;
    uint32_t width = description.slots;
    for (size_t number = 0; number < description.layers.size(); ++number) {
        const LayerDescription& layer = description.layers[number];
        // Bytes take a quarter of a row.
        const bool bytes_follow = number + 1 < description.layers.size() && description.layers[number + 1].int8;
        widest_pair = std::max(widest_pair, (layer.int8 ? (width + 3) / 4 : width) +
                                                (bytes_follow ? (layer.outputs + 3) / 4 : layer.outputs));
        width = layer.outputs;
        if (layer.int8) {
            if (number > 0) hand_on_bytes(layers_.back(), description.layers[number - 1], layer);
            for (uint32_t& buffer : rows)
                buffer = std::max({buffer, layer.inputs, (layer.outputs + int8_panel - 1) / int8_panel * int8_panel});
        }
        if (number + 1 == description.layers.size() && description.outputs == 1) {
            packed_.last = pack_layer(layer, position, true);
        } else {
            layers_.push_back(layer.int8 ? pack_int8(layer, position) : pack_layer(layer, position, false));
            uint32_t& buffer = rows[(number + 1) % 2];
            buffer = std::max(buffer, layer.outputs);
        }
    }
    // Quads stand where the layer before has read from, so the buffers change places once more at each int8 layer.
    if (!int8_.empty()) rows[0] = rows[1] = std::max(rows[0], rows[1]);
    packed_.features = description.features;
    packed_.outputs = description.outputs;
    if (description.outputs > 1) output_rows_ = position;
    packed_.output_rows = output_rows_.empty() ? nullptr : output_rows_.data();
    packed_.few = few_documents(description);
    packed_.tile = static_cast<size_t>(widest_pair) * isa.lanes * 4 * sizeof(float) > isa.largest_tile ? 2 : 4;
    packed_.halves_512 = halves_512();
    point_at_inputs();
    packed_.layer_count = static_cast<uint32_t>(layers_.size());
    packed_.layers = layers_.data();
    packed_.rows_even = rows[0];
    packed_.rows_odd = rows[1];
}

Layer Network::pack_layer(const LayerDescription& d, std::vector<uint32_t>& position, bool last) {
    Layer layer{};
    layer.inputs = d.inputs;
    layer.outputs = d.outputs;
    layer.sparse = d.sparse || last;
    layer.sigmoid = d.activation == Activation::sigmoid;
    layer.lower = d.activation == Activation::relu || d.activation == Activation::relu6 ? 0.0f : -infinity;
    layer.upper = d.activation == Activation::relu6 ? 6.0f : infinity;
    std::vector<std::vector<Entry>> rows;
    for (uint32_t o = 0; o < d.outputs; ++o) rows.push_back(row_of(d, o, position));
    std::vector<uint32_t> order(d.outputs);
    std::iota(order.begin(), order.end(), 0u);
    if (layer.sparse)
        std::stable_sort(order.begin(), order.end(),
                         [&](uint32_t a, uint32_t b) { return rows[a].size() < rows[b].size(); });

    std::vector<float> bias;
    for (uint32_t o : order) bias.push_back(d.bias[o]);
    bias.resize((bias.size() + dense_panel - 1) / dense_panel * dense_panel, 0.0f);
    floats_.push_back(std::move(bias));
    layer.bias = floats_.back().data();
    if (layer.sparse) {
        std::vector<uint32_t> lengths;
        for (uint32_t o : order) lengths.push_back(static_cast<uint32_t>(rows[o].size()));
        pack_runs(lengths, layer);
        for (uint32_t stream = 0; stream < stream_count; ++stream) {
            if (stream == narrow_stream && !isa_.has_narrow) continue;
            const uint32_t unit = static_cast<uint32_t>(sizeof(float)) * (stream == wide_stream ? isa_.lanes : 1);
            std::vector<Weight> weights;
            for (uint32_t o : order)
                for (const Entry& entry : rows[o]) weights.push_back({entry.value, entry.position * unit});
            weights_.push_back(std::move(weights));
            layer.weights[stream] = weights_.back().data();
        }
    } else {
        const size_t panels = (d.outputs + dense_panel - 1) / dense_panel;
        std::vector<float> packed(panels * d.inputs * dense_panel, 0.0f);
        for (uint32_t o = 0; o < d.outputs; ++o)
            for (uint32_t k = 0; k < d.inputs; ++k)
                packed[(static_cast<size_t>(o / dense_panel) * d.inputs + k) * dense_panel + o % dense_panel] =
                    rows[o][k].value;
        floats_.push_back(std::move(packed));
        layer.panels = floats_.back().data();
    }
    position.resize(d.outputs);
    for (uint32_t place = 0; place < d.outputs; ++place) position[order[place]] = place;
    return layer;
}

// Neighbours of one length, which kernels take together.
void Network::pack_runs(const std::vector<uint32_t>& lengths, Layer& layer) {
    std::vector<Rows> runs;
    for (uint32_t length : lengths) {
        if (runs.empty() || runs.back().length != length) runs.push_back({length, 0});
        ++runs.back().count;
    }
    runs_.push_back(std::move(runs));
    layer.runs = runs_.back().data();
    layer.run_count = static_cast<uint32_t>(runs_.back().size());
}

size_t Network::scratch_floats() const noexcept {
    return (static_cast<size_t>(packed_.rows_even) + packed_.rows_odd) * 4 * isa_.lanes;
}

int Network::run(const float* X, size_t n, float* out, float* scratch) const noexcept {
    return isa_.score(packed_, X, n, out, scratch) ? faults(X, n) : status_ok;
}

int Network::score(const float* X, size_t n, float* out, unsigned n_threads) const noexcept {
    return split(n, tile(), n_threads, [&](size_t first, size_t count) noexcept {
        float* scratch = thread_scratch(scratch_floats());
        if (scratch == nullptr) return static_cast<int>(status_no_memory);
        return run(X + first * packed_.features, count, out + first * packed_.outputs, scratch);
    });
}

// The slow second look, once the kernels have met something.
int Network::faults(const float* X, size_t n) const noexcept {
    int status = status_ok;
    for (size_t i = 0; i < n; ++i)
        for (uint32_t feature : read_) {
            const float x = X[i * packed_.features + feature];
            if (std::isinf(x)) status |= status_infinite;
            if (std::isnan(x) && !allow_missing_[feature]) status |= status_missing;
        }
    return status;
}

}  // namespace prunus
