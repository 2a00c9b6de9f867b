// Forest, for Python.
#include "bindings_forest.hpp"

#include <nanobind/stl/string.h>

#include <cstdint>
#include <new>
#include <string>

#include "bindings_buffer.hpp"
#include "engine/dispatch.hpp"
#include "engine/network.hpp"
#include "forest/forest.hpp"

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace {

template <class Array>
size_t steps(const Array& array, const char* name) {
    if (array.shape(0) < 1) refuse(std::string(name) + " is empty; expected one entry more than there are");
    return array.shape(0) - 1;
}

void build(prunus::forest::Forest* self, size_t n_features, double base, Vector<int32_t> node_start,
           Vector<int32_t> leaf_start, Vector<int32_t> root, Vector<int32_t> feature, Vector<float> threshold,
           Vector<int32_t> left, Vector<int32_t> right, Vector<uint8_t> missing, Vector<int32_t> category,
           Vector<int32_t> set_start, Vector<int32_t> set_code, Vector<double> value, const std::string& isa) {
    prunus::forest::Description d{};
    if (n_features > (1u << 16)) refuse(std::to_string(n_features) + " features; expected at most 65536");
    d.features = static_cast<uint32_t>(n_features);
    d.base = base;
    d.trees = steps(leaf_start, "leaf_start");
    d.nodes = feature.shape(0);
    d.leaves = value.shape(0);
    d.sets = steps(set_start, "set_start");
    d.codes = set_code.shape(0);
    d.node_start = sized(node_start, d.trees + 1, "node_start");
    d.leaf_start = leaf_start.data();
    d.root = sized(root, d.trees, "root");
    d.feature = feature.data();
    d.threshold = sized(threshold, d.nodes, "threshold");
    d.left = sized(left, d.nodes, "left");
    d.right = sized(right, d.nodes, "right");
    d.missing = sized(missing, d.nodes, "missing");
    d.category = sized(category, d.nodes, "category");
    d.set_start = set_start.data();
    d.set_code = set_code.data();
    d.value = value.data();
    const std::string problem = prunus::forest::Forest::check(d);
    if (!problem.empty()) refuse(problem);
    new (self) prunus::forest::Forest(d, prunus::forest_isa(isa_named(isa)));
}

void check_columns(const prunus::forest::Forest& self, const Floats& X) {
    if (X.shape(1) != self.features())
        refuse("X has " + std::to_string(X.shape(1)) + " columns; expected " + std::to_string(self.features()));
}

void check_documents(size_t found, const Floats& X) {
    if (found != X.shape(0))
        refuse("out has " + std::to_string(found) + " entries; expected one for each of " + std::to_string(X.shape(0)) +
               " documents");
}

int score(const prunus::forest::Forest& self, nb::handle X_object, nb::handle out_object, unsigned n_threads) {
    const Floats X(X_object, 2, false, "X"), out(out_object, 1, true, "out");
    check_columns(self, X);
    check_documents(out.shape(0), X);
    if (n_threads < 1 || n_threads > 65535) refuse("n_threads must be 1 to 65535");
    int status;
    {
        nb::gil_scoped_release released;
        status = self.score(X.data(), X.shape(0), out.data(), n_threads);
    }
    if (status & prunus::status_no_memory) throw std::bad_alloc();
    return status;
}

void leaves(const prunus::forest::Forest& self, nb::handle X_object, nb::handle out_object) {
    const Floats X(X_object, 2, false, "X");
    const Buffer<int32_t> out(out_object, 2, true, "out");
    check_columns(self, X);
    check_documents(out.shape(0), X);
    if (out.shape(1) != self.trees())
        refuse("out has " + std::to_string(out.shape(1)) + " columns; expected one for each of " +
               std::to_string(self.trees()) + " trees");
    int status;
    {
        nb::gil_scoped_release released;
        status = self.leaves(X.data(), X.shape(0), out.data());
    }
    if (status & prunus::status_no_memory) throw std::bad_alloc();
}

}  // namespace

void bind_forest(nb::module_& module) {
    nb::class_<prunus::forest::Forest>(module, "Forest", "An ensemble of trees packed for one instruction set.")
        .def("__init__", build, "n_features"_a, "base"_a, "node_start"_a.noconvert(), "leaf_start"_a.noconvert(),
             "root"_a.noconvert(), "feature"_a.noconvert(), "threshold"_a.noconvert(), "left"_a.noconvert(),
             "right"_a.noconvert(), "missing"_a.noconvert(), "category"_a.noconvert(), "set_start"_a.noconvert(),
             "set_code"_a.noconvert(), "value"_a.noconvert(), "isa"_a)
        .def("score", score, "X"_a, "out"_a, "n_threads"_a = 1, "Score the rows of X into out; returns 0.")
        .def("leaves", leaves, "X"_a, "out"_a,
             "Write the leaf of each row of X in each tree, counted inside the tree, to out, int32 [n, n_trees].")
        .def_prop_ro("isa", [](const prunus::forest::Forest& self) { return std::string(self.isa().name); })
        .def_prop_ro("features", &prunus::forest::Forest::features)
        .def_prop_ro("trees", &prunus::forest::Forest::trees);
}
