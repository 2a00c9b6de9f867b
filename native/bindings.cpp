// Python sees the core through this file, bindings_click.cpp, bindings_forest.cpp and bindings_recommend.cpp.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bindings_buffer.hpp"
#include "bindings_click.hpp"
#include "bindings_forest.hpp"
#include "bindings_recommend.hpp"
#include "engine/dispatch.hpp"
#include "engine/network.hpp"

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace {

template <class T>
using Matrix = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

uint32_t width(size_t n, const char* name) {
    if (n > (1u << 16)) refuse(std::to_string(n) + " " + name + "; expected at most 65536");
    return static_cast<uint32_t>(n);
}

void describe_int8(prunus::LayerDescription& d, nb::handle scale, nb::handle bias, nb::handle input_scale,
                   nb::handle input_zero, nb::handle activation) {
    d.int8 = true;
    d.scale = sized(nb::cast<Vector<float>>(scale, false), d.outputs, "scale");
    d.bias = sized(nb::cast<Vector<float>>(bias, false), d.outputs, "bias");
    d.input_scale = nb::cast<float>(input_scale);
    d.input_zero = nb::cast<float>(input_zero);
    d.activation = static_cast<prunus::Activation>(nb::cast<uint32_t>(activation));
}

// ("dense", weight, bias, activation), ("sparse", indptr, indices, values, bias, n_inputs, activation),
// ("dense_int8", weight, scale, bias, input_scale, input_zero, activation) or
// ("block_int8", indptr, blocks, weight, scale, bias, n_inputs, input_scale, input_zero, activation)
prunus::LayerDescription describe(nb::tuple layer) {
    prunus::LayerDescription d{};
    const std::string kind = nb::cast<std::string>(layer[0]);
    if (kind == "dense" && layer.size() == 4) {
        const auto weight = nb::cast<Matrix<float>>(layer[1], false);
        d.outputs = width(weight.shape(0), "outputs");
        d.inputs = width(weight.shape(1), "inputs");
        d.weight = weight.data();
        d.bias = sized(nb::cast<Vector<float>>(layer[2], false), d.outputs, "bias");
        d.activation = static_cast<prunus::Activation>(nb::cast<uint32_t>(layer[3]));
    } else if (kind == "sparse" && layer.size() == 7) {
        const auto bias = nb::cast<Vector<float>>(layer[4], false);
        const auto indices = nb::cast<Vector<int32_t>>(layer[2], false);
        d.sparse = true;
        d.outputs = width(bias.shape(0), "outputs");
        d.inputs = width(nb::cast<size_t>(layer[5]), "inputs");
        d.bias = bias.data();
        d.indptr = sized(nb::cast<Vector<int32_t>>(layer[1], false), static_cast<size_t>(d.outputs) + 1, "indptr");
        d.stored = indices.shape(0);
        d.indices = indices.data();
        d.values = sized(nb::cast<Vector<float>>(layer[3], false), d.stored, "values");
        d.activation = static_cast<prunus::Activation>(nb::cast<uint32_t>(layer[6]));
    } else if (kind == "dense_int8" && layer.size() == 7) {
        const auto weight = nb::cast<Matrix<int8_t>>(layer[1], false);
        d.outputs = width(weight.shape(0), "outputs");
        d.inputs = width(weight.shape(1), "inputs");
        d.steps = weight.data();
        describe_int8(d, layer[2], layer[3], layer[4], layer[5], layer[6]);
    } else if (kind == "block_int8" && layer.size() == 10) {
        const auto blocks = nb::cast<Vector<int32_t>>(layer[2], false);
        const auto weight = nb::cast<Matrix<int8_t>>(layer[3], false);
        d.sparse = true;
        d.outputs = width(nb::cast<Vector<float>>(layer[5], false).shape(0), "outputs");
        d.inputs = width(nb::cast<size_t>(layer[6]), "inputs");
        d.indptr = sized(nb::cast<Vector<int32_t>>(layer[1], false), static_cast<size_t>(d.outputs) + 1, "indptr");
        d.stored = blocks.shape(0);
        d.indices = blocks.data();
        if (weight.shape(0) != d.stored || weight.shape(1) != 4) refuse("a block layer needs weights of [blocks, 4]");
        d.steps = weight.data();
        describe_int8(d, layer[4], layer[5], layer[7], layer[8], layer[9]);
    } else {
        refuse("a layer is ('" + kind + "', ...) with " + std::to_string(layer.size()) +
               " entries; expected ('dense', 3 more), ('sparse', 6 more), ('dense_int8', 6 more) or ('block_int8', 9 "
               "more)");
    }
    return d;
}

void build(prunus::Network* self, size_t n_features, Vector<uint8_t> allow_missing, Vector<int32_t> feature,
           Vector<uint8_t> kind, Vector<float> center, Vector<float> scale, Vector<float> lower, Vector<float> upper,
           Vector<float> fill, nb::list layers, const std::string& isa, size_t n_outputs) {
    prunus::Description d{};
    d.features = width(n_features, "features");
    d.allow_missing = sized(allow_missing, n_features, "allow_missing");
    d.slots = width(feature.shape(0), "slots");
    d.feature = feature.data();
    d.kind = sized(kind, d.slots, "kind");
    d.center = sized(center, d.slots, "center");
    d.scale = sized(scale, d.slots, "scale");
    d.lower = sized(lower, d.slots, "lower");
    d.upper = sized(upper, d.slots, "upper");
    d.fill = sized(fill, d.slots, "fill");
    d.outputs = width(n_outputs, "outputs");
    for (nb::handle layer : layers) d.layers.push_back(describe(nb::cast<nb::tuple>(layer)));
    const std::string problem = prunus::Network::check(d);
    if (!problem.empty()) refuse(problem);
    new (self) prunus::Network(d, isa_named(isa));
}

int score(const prunus::Network& self, nb::handle X_object, nb::handle out_object, unsigned n_threads) {
    const Floats X(X_object, 2, false, "X"), out(out_object, 1, true, "out");
    if (X.shape(1) != self.features())
        refuse("X has " + std::to_string(X.shape(1)) + " columns; expected " + std::to_string(self.features()));
    if (out.shape(0) != X.shape(0))
        refuse("out has " + std::to_string(out.shape(0)) + " entries; expected one for each of " +
               std::to_string(X.shape(0)) + " documents");
    if (self.outputs() != 1) refuse("the network has " + std::to_string(self.outputs()) + " outputs; expected 1");
    if (n_threads < 1 || n_threads > 65535) refuse("n_threads must be 1 to 65535");
    int status;
    {
        nb::gil_scoped_release released;
        status = self.score(X.data(), X.shape(0), out.data(), n_threads);
    }
    if (status & prunus::status_no_memory) throw std::bad_alloc();
    return status;
}

std::vector<std::string> isas() {
    std::vector<std::string> names;
    for (const prunus::Isa* isa : prunus::usable_isas()) names.push_back(isa->name);
    return names;
}

}  // namespace

NB_MODULE(_native, module) {
    module.def("isas", isas, "Instruction sets that can be used here, best first.");
    module.def(
        "lanes", [](const std::string& isa) { return isa_named(isa).lanes; }, "isa"_a,
        "Documents in one vector of an instruction set.");
    nb::class_<prunus::Network>(module, "Network", "A network packed for one instruction set.")
        .def("__init__", build, "n_features"_a, "allow_missing"_a.noconvert(), "feature"_a.noconvert(),
             "kind"_a.noconvert(), "center"_a.noconvert(), "scale"_a.noconvert(), "lower"_a.noconvert(),
             "upper"_a.noconvert(), "fill"_a.noconvert(), "layers"_a, "isa"_a, "n_outputs"_a = 1)
        .def("score", score, "X"_a, "out"_a, "n_threads"_a = 1,
             "Score the rows of X into out; returns flags (1: NaN where forbidden, 2: infinity in a feature that is "
             "read).")
        .def_prop_ro("isa", [](const prunus::Network& self) { return self.isa().name; })
        .def_prop_ro("tile", &prunus::Network::tile, "Documents of a full tile.");
    bind_click(module);
    bind_forest(module);
    bind_recommend(module);
}
