// Recommender, for Python.
#include "bindings_recommend.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstdint>
#include <new>
#include <optional>
#include <string>

#include "bindings_buffer.hpp"
#include "engine/dispatch.hpp"
#include "engine/network.hpp"
#include "recommend/recommender.hpp"

namespace nb = nanobind;
using nb::literals::operator""_a;
using prunus::recommend::Description;
using prunus::recommend::Recommender;
using prunus::recommend::Request;
using prunus::recommend::Rows;

namespace {

const prunus::recommend::RecommendIsa& isa_named(const std::string& name) {
    for (const prunus::Isa* isa : prunus::usable_isas())
        if (name == isa->name) return *prunus::recommend::recommend_isa_of(isa->name);
    refuse("instruction set '" + name + "' is not in this build or not on this CPU");
}

Rows rows_of(const Vector<int32_t>& indptr, const Vector<int32_t>& factor, const Vector<float>& value) {
    if (indptr.shape(0) < 1) refuse("indptr is empty; expected one entry more than items");
    return {indptr.shape(0) - 1, factor.shape(0), indptr.data(), factor.data(),
            sized(value, factor.shape(0), "values")};
}

void build(Recommender* self, size_t n_items, size_t n_factors, Vector<int32_t> indptr, Vector<int32_t> factor,
           Vector<float> value, std::optional<Vector<int32_t>> encode_indptr,
           std::optional<Vector<int32_t>> encode_factor, std::optional<Vector<float>> encode_value, Vector<float> scale,
           Vector<float> bias, Vector<int32_t> order, std::optional<Vector<float>> step,
           std::optional<Vector<float>> encode_step, const std::string& isa) {
    if (n_items > UINT32_MAX || n_factors > UINT32_MAX) refuse("too many items or factors; expected at most 2^24");
    Description d{};
    d.items = static_cast<uint32_t>(n_items);
    d.factors = static_cast<uint32_t>(n_factors);
    d.decode = rows_of(indptr, factor, value);
    Rows encode{};
    if (encode_indptr && encode_factor && encode_value) {
        encode = rows_of(*encode_indptr, *encode_factor, *encode_value);
        d.encode = &encode;
    }
    d.scale = sized(scale, n_items, "scale");
    d.bias = sized(bias, n_items, "bias");
    d.order = sized(order, n_items, "order");
    d.step = step ? sized(*step, n_items, "step") : nullptr;
    d.encode_step = encode_step ? sized(*encode_step, n_items, "encode_step") : nullptr;
    const std::string problem = Recommender::check(d);
    if (!problem.empty()) refuse(problem);
    new (self) Recommender(d, isa_named(isa));
}

// Histories, and what a call allows; the buffers must live as long as the request.
Request request_of(const Recommender& self, const Buffer<int32_t>& indptr, const Buffer<int32_t>& items,
                   const std::optional<Vector<uint8_t>>& allowed, size_t k, bool mask_seen) {
    if (indptr.shape(0) < 1) refuse("indptr is empty; expected one entry more than users");
    const Request request{indptr.shape(0) - 1,
                          indptr.data(),
                          items.data(),
                          allowed ? sized(*allowed, self.items(), "allowed") : nullptr,
                          static_cast<uint32_t>(k),
                          mask_seen};
    const std::string problem = self.check(request, items.shape(0));
    if (!problem.empty()) refuse(problem);
    return request;
}

void check_out(const char* name, size_t users, size_t columns, size_t found_users, size_t found_columns) {
    if (found_users != users || found_columns != columns)
        refuse(std::string(name) + " is [" + std::to_string(found_users) + ", " + std::to_string(found_columns) +
               "]; expected [" + std::to_string(users) + ", " + std::to_string(columns) + "]");
}

void check_threads(unsigned n_threads) {
    if (n_threads < 1 || n_threads > 65535) refuse("n_threads must be 1 to 65535");
}

size_t recommend(const Recommender& self, nb::handle indptr_object, nb::handle items_object, nb::handle ids_object,
                 nb::handle scores_object, std::optional<Vector<uint8_t>> allowed, bool mask_seen, unsigned n_threads) {
    const Buffer<int32_t> indptr(indptr_object, 1, false, "indptr"), items(items_object, 1, false, "items");
    // They arrive while the other arguments are looked at; hardware fetches the rest of long ones.
    for (size_t i = 0; i < std::min<size_t>(items.shape(0), 1024); i += 16) __builtin_prefetch(items.data() + i);
    const Buffer<int32_t> ids(ids_object, 2, true, "ids");
    const Floats scores(scores_object, 2, true, "scores");
    const Request request = request_of(self, indptr, items, allowed, ids.shape(1), mask_seen);
    check_out("ids", request.users, request.k, ids.shape(0), ids.shape(1));
    check_out("scores", request.users, request.k, scores.shape(0), scores.shape(1));
    check_threads(n_threads);
    int status;
    {
        nb::gil_scoped_release released;
        status = self.recommend(request, ids.data(), scores.data(), n_threads);
    }
    if (status & prunus::status_no_memory) throw std::bad_alloc();
    size_t cold = 0;
    for (size_t user = 0; user < request.users; ++user) cold += request.indptr[user] == request.indptr[user + 1];
    return cold;
}

void score(const Recommender& self, nb::handle indptr_object, nb::handle items_object, nb::handle scores_object,
           unsigned n_threads) {
    const Buffer<int32_t> indptr(indptr_object, 1, false, "indptr"), items(items_object, 1, false, "items");
    const Floats scores(scores_object, 2, true, "scores");
    const Request request = request_of(self, indptr, items, std::nullopt, 0, false);
    check_out("scores", request.users, self.items(), scores.shape(0), scores.shape(1));
    check_threads(n_threads);
    int status;
    {
        nb::gil_scoped_release released;
        status = self.score(request, scores.data(), n_threads);
    }
    if (status & prunus::status_no_memory) throw std::bad_alloc();
}

}  // namespace

void bind_recommend(nb::module_& module) {
    nb::class_<Recommender>(module, "Recommender", "Item factors packed for one instruction set.")
        .def("__init__", build, "n_items"_a, "n_factors"_a, "indptr"_a.noconvert(), "factor"_a.noconvert(),
             "value"_a.noconvert(), "encode_indptr"_a.none(), "encode_factor"_a.none(), "encode_value"_a.none(),
             "scale"_a.noconvert(), "bias"_a.noconvert(), "order"_a.noconvert(), "step"_a.none(),
             "encode_step"_a.none(), "isa"_a)
        .def("recommend", recommend, "indptr"_a, "items"_a, "ids"_a, "scores"_a, "allowed"_a.none() = nb::none(),
             "mask_seen"_a = true, "n_threads"_a = 1,
             "Write each user's best items and their scores to ids, int32 [n, k], and scores, float32 [n, k]; returns "
             "how many users have an "
             "empty history.")
        .def("score", score, "indptr"_a, "items"_a, "scores"_a, "n_threads"_a = 1,
             "Write the scores of all items to scores, float32 [n, n_items].")
        .def_prop_ro("isa", [](const Recommender& self) { return std::string(self.isa().name); })
        .def_prop_ro("quads", &Recommender::quads, "Whether one user's values are looked up as bytes.");
}
