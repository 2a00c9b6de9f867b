// Click, for Python.
#include "bindings_click.hpp"

#include <cstdint>
#include <new>
#include <string>

#include "bindings_buffer.hpp"
#include "click/click.hpp"

namespace nb = nanobind;
using nb::literals::operator""_a;
using prunus::Network;
using prunus::click::Click;
using prunus::click::Description;

namespace {

using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void build(Click* self, size_t n_dense, nb::list keys, nb::list rows, bool interactions, const Network* bottom,
           const Network& top) {
    if (n_dense > (1u << 16)) refuse("too many dense features; expected at most 65536");
    if (keys.size() != rows.size()) refuse("expected rows of embeddings for each list of keys");
    Description d{static_cast<uint32_t>(n_dense), 0, {}, interactions, bottom, &top};
    for (size_t field = 0; field < keys.size(); ++field) {
        const auto ids = nb::cast<Vector<uint64_t>>(keys[field], false);
        const auto matrix = nb::cast<Matrix>(rows[field], false);
        if (field == 0) d.dim = static_cast<uint32_t>(matrix.shape(1));
        if (matrix.shape(0) != ids.shape(0) + 1 || matrix.shape(1) != d.dim || d.dim < 1 || d.dim > (1u << 16))
            refuse("rows of embeddings must be [ids + 1, dim], dim the same in all fields");
        d.tables.push_back({ids.data(), ids.shape(0), matrix.data()});
    }
    const std::string problem = Click::check(d);
    if (!problem.empty()) refuse(problem);
    new (self) Click(d);
}

int score(const Click& self, nb::handle ids_object, nb::handle dense_object, nb::handle out_object,
          unsigned n_threads) {
    const Buffer<uint64_t> ids(ids_object, 2, false, "ids");
    const Floats dense(dense_object, 2, false, "dense"), out(out_object, 1, true, "out");
    if (ids.shape(1) != self.fields() || dense.shape(1) != self.n_dense())
        refuse("ids have " + std::to_string(ids.shape(1)) + " columns and dense features " +
               std::to_string(dense.shape(1)) + "; expected " + std::to_string(self.fields()) + " and " +
               std::to_string(self.n_dense()));
    if (ids.shape(0) != dense.shape(0) || ids.shape(0) != out.shape(0))
        refuse("ids, dense and out have " + std::to_string(ids.shape(0)) + ", " + std::to_string(dense.shape(0)) +
               " and " + std::to_string(out.shape(0)) + " rows; expected the same");
    if (n_threads < 1 || n_threads > 65535) refuse("n_threads must be 1 to 65535");
    int status;
    {
        nb::gil_scoped_release released;
        status = self.score(ids.data(), dense.data(), ids.shape(0), out.data(), n_threads);
    }
    if (status & prunus::status_no_memory) throw std::bad_alloc();
    return status;
}

}  // namespace

void bind_click(nb::module_& module) {
    nb::class_<Click>(module, "Click", "A click model, packed around networks that were packed before.")
        .def("__init__", build, "n_dense"_a, "keys"_a, "rows"_a, "interactions"_a, "bottom"_a.none(), "top"_a,
             nb::keep_alive<1, 6>(), nb::keep_alive<1, 7>())
        .def("score", score, "ids"_a, "dense"_a, "out"_a, "n_threads"_a = 1,
             "Score events into out; returns flags (1: NaN where forbidden, 2: infinity in what a network reads).");
}
