// Every kernel of this build, on every instruction set that this CPU has, against a golden file that the NumPy twin
// wrote (tests/golden_form.py says how it looks). No Python in it, so that it runs where there is none.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "click/click.hpp"
#include "engine/dispatch.hpp"
#include "engine/network.hpp"
#include "forest/forest.hpp"
#include "golden_reader.hpp"
#include "recommend/recommender.hpp"

namespace {

// Memory whose last float stands before a page that ends the process when it is touched. Where a batch begins in it
// depends on its size, so that rows stand at any address that a float may have.
class Edge {
  public:
    explicit Edge(size_t floats) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
        size_ = (floats * sizeof(float) + page_ - 1) / page_ * page_;
        void* found = mmap(nullptr, size_ + page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (found == MAP_FAILED) throw std::runtime_error("no memory");
        memory_ = static_cast<char*>(found);
        if (mprotect(memory_ + size_, page_, PROT_NONE) != 0) throw std::runtime_error("no guard page");
    }
    ~Edge() { munmap(memory_, size_ + page_); }
    Edge(const Edge&) = delete;
    Edge& operator=(const Edge&) = delete;
    float* last(size_t floats) const { return reinterpret_cast<float*>(memory_ + size_) - floats; }

  private:
    size_t page_, size_;
    char* memory_;
};

// What one case found on one instruction set: the first thing that is wrong, or nothing.
class Found {
  public:
    Found(const Case& one, const char* isa)
        : where_("case '" + one.name + "', kernel " + one.own["kernel"].text + ", set " + isa) {}
    void wrong(const std::string& what) {
        if (first_.empty()) first_ = where_ + ": " + what;
    }
    const std::string& first() const { return first_; }

  private:
    std::string where_, first_;
};

std::string place(size_t batch, size_t document) {
    return "document " + std::to_string(document) + " of a batch of " + std::to_string(batch);
}

std::string number(double x) {
    char text[40];
    std::snprintf(text, sizeof text, "%.9g", x);
    return text;
}

prunus::LayerDescription describe(const Arrays& arrays) {
    prunus::LayerDescription d{};
    const std::vector<int32_t>& shape = arrays["layer"].ints;  // kind, inputs, outputs, activation
    d.sparse = shape.at(0) % 2 == 1;
    d.int8 = shape.at(0) >= 2;
    d.inputs = static_cast<uint32_t>(shape.at(1));
    d.outputs = static_cast<uint32_t>(shape.at(2));
    d.activation = static_cast<prunus::Activation>(shape.at(3));
    d.bias = arrays["bias"].floats.data();
    if (d.sparse) {
        d.indptr = arrays["indptr"].ints.data();
        d.indices = arrays["indices"].ints.data();
        d.stored = arrays["indices"].ints.size();
    }
    if (d.int8) {
        d.steps = arrays["weight"].steps.data();
        d.scale = arrays["scale"].floats.data();
        d.input_scale = arrays["input"].floats.at(0);
        d.input_zero = arrays["input"].floats.at(1);
    } else {
        (d.sparse ? d.values : d.weight) = arrays["weight"].floats.data();
    }
    return d;
}

// The network whose stage is in the arrays that begin with `prefix`, and whose layers are some of the case's.
prunus::Description describe_network(const Case& one, const std::string& prefix, size_t first, size_t last) {
    prunus::Description d{};
    const auto own = [&](const char* name) -> const Array& { return one.own[prefix + name]; };
    d.features = static_cast<uint32_t>(own("features").ints.at(0));
    d.allow_missing = own("allow_missing").bytes.data();
    d.slots = static_cast<uint32_t>(own("feature").ints.size());
    d.feature = own("feature").ints.data();
    d.kind = own("kind").bytes.data();
    d.center = own("center").floats.data();
    d.scale = own("scale").floats.data();
    d.lower = own("lower").floats.data();
    d.upper = own("upper").floats.data();
    d.fill = own("fill").floats.data();
    for (size_t i = first; i < last; ++i) d.layers.push_back(describe(one.layers.at(i)));
    d.outputs = d.layers.back().outputs;
    return d;
}

prunus::forest::Description describe_forest(const Arrays& own) {
    prunus::forest::Description d{};
    d.features = static_cast<uint32_t>(own["n_features"].ints.at(0));
    d.base = own["base"].doubles.at(0);
    d.trees = own["root"].ints.size();
    d.nodes = own["feature"].ints.size();
    d.leaves = own["value"].doubles.size();
    d.sets = own["set_start"].ints.size() - 1;
    d.codes = own["set_code"].ints.size();
    d.node_start = own["node_start"].ints.data();
    d.leaf_start = own["leaf_start"].ints.data();
    d.root = own["root"].ints.data();
    d.feature = own["feature"].ints.data();
    d.threshold = own["threshold"].floats.data();
    d.left = own["left"].ints.data();
    d.right = own["right"].ints.data();
    d.missing = own["missing"].bytes.data();
    d.category = own["category"].ints.data();
    d.set_start = own["set_start"].ints.data();
    d.set_code = own["set_code"].ints.data();
    d.value = own["value"].doubles.data();
    return d;
}

// Scores of a batch, written between two numbers that must stay.
template <class Model>
int score(const Model& model, const float* X, size_t n, std::vector<float>& scores, Found& found) {
    constexpr float untouched = 12345.5f;
    const size_t shift = 1 + n % 4;
    std::vector<float> room(n + shift + 1, untouched);
    const int status = model.score(X, n, room.data() + shift, 1);
    if (room[shift - 1] != untouched || room[shift + n] != untouched)
        found.wrong("a batch of " + std::to_string(n) + " writes beside its scores");
    scores.assign(room.begin() + static_cast<std::ptrdiff_t>(shift), room.end() - 1);
    return status;
}

// Score every batch of the case; a document's score must lie within its slack of the twin's, and must have the same
// bits in every batch. Returns the number of calls.
template <class Model>
size_t check_scores(const Case& one, const Model& model, std::vector<float>& first_scores, Found& found) {
    const std::vector<float>&X = one.own["X"].floats, &expected = one.own["score"].floats,
          &slack = one.own["slack"].floats;
    const size_t features = model.features(), rows = expected.size();
    const Edge edge(X.size());
    std::vector<float> scores;
    std::vector<bool> seen(rows, false);
    first_scores.assign(rows, 0.0f);
    for (const int32_t batch : one.own["batches"].ints) {
        const size_t n = static_cast<size_t>(batch), first = 7 * n % (rows - n + 1);
        float* at = edge.last(n * features);
        std::memcpy(at, X.data() + first * features, n * features * sizeof(float));
        if (score(model, at, n, scores, found) != prunus::status_ok)
            found.wrong("a batch of " + std::to_string(n) + " has a status, and should have none");
        for (size_t i = 0; i < n; ++i) {
            const float want = expected[first + i];
            // Written so that a NaN fails; two infinities are the same.
            if (!(scores[i] == want || std::fabs(static_cast<double>(scores[i]) - want) <= slack[first + i]))
                found.wrong(place(n, i) + " scores " + number(scores[i]) + "; expected " + number(want) + " +- " +
                            number(slack[first + i]));
            float& before = first_scores[first + i];
            if (seen[first + i] && std::memcmp(&before, &scores[i], sizeof before) != 0)
                found.wrong(place(n, i) + " scores " + number(scores[i]) + "; elsewhere " + number(before));
            before = scores[i];
            seen[first + i] = true;
        }
    }
    return one.own["batches"].ints.size();
}

// One bad value at a time: the status must be what the twin says.
size_t check_statuses(const Case& one, const prunus::Network& model, Found& found) {
    if (!one.own.has("bad_value")) return 0;
    const std::vector<float>&X = one.own["X"].floats, &value = one.own["bad_value"].floats;
    const std::vector<int32_t>&batch = one.own["bad_batch"].ints, &place_of = one.own["bad_place"].ints,
          &status = one.own["bad_status"].ints;
    const Edge edge(X.size());
    std::vector<float> scores;
    for (size_t i = 0; i < value.size(); ++i) {
        const size_t n = static_cast<size_t>(batch[i]), floats = n * model.features();
        float* at = edge.last(floats);
        std::memcpy(at, X.data(), floats * sizeof(float));
        at[place_of[i]] = value[i];
        const int got = score(model, at, n, scores, found);
        if (got != status[i])
            found.wrong("with " + number(value[i]) + " at " + std::to_string(place_of[i]) + ", a batch of " +
                        std::to_string(n) + " has status " + std::to_string(got) + "; expected " +
                        std::to_string(status[i]));
    }
    return value.size();
}

size_t check_leaves(const Case& one, const prunus::forest::Forest& model, Found& found) {
    const std::vector<float>& X = one.own["X"].floats;
    const std::vector<int32_t>& expected = one.own["leaves"].ints;
    const size_t features = model.features(), trees = model.trees(), rows = X.size() / features;
    for (const int32_t batch : one.own["leaf_batches"].ints) {
        const size_t n = static_cast<size_t>(batch), first = 7 * n % (rows - n + 1);
        std::vector<int32_t> got(n * trees, -7);
        if (model.leaves(X.data() + first * features, n, got.data()) != prunus::status_ok)
            found.wrong("a batch of " + std::to_string(n) + " finds no leaves");
        for (size_t i = 0; i < got.size(); ++i)
            if (got[i] != expected[first * trees + i])
                found.wrong(place(n, i / trees) + " reaches leaf " + std::to_string(got[i]) + " of tree " +
                            std::to_string(i % trees) + "; expected " + std::to_string(expected[first * trees + i]));
    }
    return one.own["leaf_batches"].ints.size();
}

size_t check_network(const Case& one, const prunus::Isa& isa, Found& found) {
    const prunus::Description d = describe_network(one, "", 0, one.layers.size());
    const std::string problem = prunus::Network::check(d);
    if (!problem.empty()) throw std::runtime_error(one.name + ": " + problem);
    const prunus::Network model(d, isa);
    std::vector<float> scores;
    return check_scores(one, model, scores, found) + check_statuses(one, model, found);
}

// `scores`: those of another instruction set, or empty. Sums of leaves are exact, so the bits are the same.
size_t check_forest(const Case& one, const prunus::Isa& isa, std::vector<float>& scores, Found& found) {
    const prunus::forest::Description d = describe_forest(one.own);
    const std::string problem = prunus::forest::Forest::check(d);
    if (!problem.empty()) throw std::runtime_error(one.name + ": " + problem);
    const prunus::forest::Forest model(d, prunus::forest_isa(isa));
    std::vector<float> own;
    const size_t calls = check_scores(one, model, own, found) + check_leaves(one, model, found);
    if (!scores.empty() && std::memcmp(scores.data(), own.data(), own.size() * sizeof(float)) != 0)
        found.wrong("the scores have other bits than those of another set");
    scores = own;
    return calls;
}

prunus::recommend::Rows rows_of(const Arrays& own, const std::string& prefix) {
    const std::vector<int32_t>&indptr = own[prefix + "indptr"].ints, &factor = own[prefix + "factor"].ints;
    return {indptr.size() - 1, factor.size(), indptr.data(), factor.data(), own[prefix + "value"].floats.data()};
}

// Lists as the twin's: its scores in order, each item's own, no item twice or of the history, ties by number.
void check_list(const Case& one, size_t user, size_t n, const int32_t* ids, const float* scores, Found& found) {
    const Arrays& own = one.own;
    const bool exact = own.has("ids");
    const size_t items = static_cast<size_t>(own["size"].ints[0]), k = static_cast<size_t>(own["k"].ints[0]);
    const float *all = own["score"].floats.data() + user * items, *slack = own["slack"].floats.data() + user * items;
    const int32_t *first = own["user_items"].ints.data() + own["user_indptr"].ints[user],
                  *last = own["user_items"].ints.data() + own["user_indptr"].ints[user + 1];
    for (size_t r = 0; r < k; ++r) {
        const float best = own["best"].floats[user * k + r];
        const bool none = ids[r] == -1 && std::isinf(scores[r]) && std::isinf(best);
        const size_t item = static_cast<size_t>(ids[r]);
        if (none) continue;
        const bool good = ids[r] >= 0 && item < items && std::fabs(scores[r] - best) <= slack[item] &&
                          (!exact || ids[r] == own["ids"].ints[user * k + r]) &&
                          std::fabs(scores[r] - all[item]) <= slack[item] && std::find(first, last, ids[r]) == last &&
                          (r == 0 || scores[r] < scores[r - 1] || (scores[r] == scores[r - 1] && ids[r] > ids[r - 1]));
        if (!good)
            found.wrong("rank " + std::to_string(r) + " of user " + std::to_string(user) + " of " + std::to_string(n) +
                        " is item " + std::to_string(ids[r]) + " with " + number(scores[r]) + "; expected " +
                        number(best));
    }
}

size_t check_recommender(const Case& one, const prunus::Isa& isa, Found& found) {
    const Arrays& own = one.own;
    prunus::recommend::Description d{};
    d.items = static_cast<uint32_t>(own["size"].ints.at(0));
    d.factors = static_cast<uint32_t>(own["size"].ints.at(1));
    d.decode = rows_of(own, "");
    const bool encodes = own.has("encode_indptr");
    const prunus::recommend::Rows encode = encodes ? rows_of(own, "encode_") : prunus::recommend::Rows{};
    d.encode = encodes ? &encode : nullptr;
    d.scale = own["scale"].floats.data();
    d.bias = own["bias"].floats.data();
    d.order = own["order"].ints.data();
    d.step = own.has("step") ? own["step"].floats.data() : nullptr;
    d.encode_step = own.has("encode_step") ? own["encode_step"].floats.data() : nullptr;
    const std::string problem = prunus::recommend::Recommender::check(d);
    if (!problem.empty()) throw std::runtime_error(one.name + ": " + problem);
    const prunus::recommend::Recommender model(d, *prunus::recommend::recommend_isa_of(isa.name));
    const size_t k = static_cast<size_t>(own["k"].ints.at(0));
    for (const int32_t users : own["batches"].ints) {
        const size_t n = static_cast<size_t>(users);
        const prunus::recommend::Request request{n,       own["user_indptr"].ints.data(), own["user_items"].ints.data(),
                                                 nullptr, static_cast<uint32_t>(k),       true};
        std::vector<int32_t> ids(n * k, -7);
        std::vector<float> best(n * k), scores(n * d.items);
        if (model.recommend(request, ids.data(), best.data(), 1) != 0 || model.score(request, scores.data(), 1) != 0)
            found.wrong(std::to_string(n) + " users have a status, and should have none");
        for (size_t i = 0; i < scores.size(); ++i)
            if (!(std::fabs(scores[i] - own["score"].floats[i]) <= own["slack"].floats[i]))
                found.wrong("item " + std::to_string(i % d.items) + " of user " + std::to_string(i / d.items) + " of " +
                            std::to_string(n) + " scores " + number(scores[i]) + "; expected " +
                            number(own["score"].floats[i]));
        for (size_t u = 0; u < n; ++u) check_list(one, u, n, ids.data() + u * k, best.data() + u * k, found);
    }
    return 2 * own["batches"].ints.size();
}

// 64-bit numbers, kept as pairs of 32 bits, the lower first.
std::vector<uint64_t> wide(const std::vector<int32_t>& pairs) {
    std::vector<uint64_t> numbers(pairs.size() / 2);
    if (!numbers.empty()) std::memcpy(numbers.data(), pairs.data(), numbers.size() * sizeof(uint64_t));
    return numbers;
}

size_t check_click(const Case& one, const prunus::Isa& isa, Found& found) {
    const Arrays& own = one.own;
    const std::vector<int32_t>& sizes = own["click"].ints;  // dense features, width, interactions, bottom layers
    const size_t below = static_cast<size_t>(sizes.at(3));
    std::unique_ptr<prunus::Network> bottom;
    if (below != 0) bottom = std::make_unique<prunus::Network>(describe_network(one, "bottom.", 0, below), isa);
    const prunus::Network top(describe_network(one, "top.", below, one.layers.size()), isa);
    prunus::click::Description d{
        static_cast<uint32_t>(sizes[0]), static_cast<uint32_t>(sizes.at(1)), {}, sizes.at(2) != 0, bottom.get(), &top};
    const std::vector<uint64_t> keys = wide(own["keys"].ints), ids = wide(own["ids"].ints);
    const uint64_t* key = keys.data();
    const float* row = own["rows"].floats.data();
    for (const int32_t count : own["counts"].ints) {
        const size_t n = static_cast<size_t>(count);
        d.tables.push_back({key, n, row});
        key += n;
        row += (n + 1) * d.dim;
    }
    const std::string problem = prunus::click::Click::check(d);
    if (!problem.empty()) throw std::runtime_error(one.name + ": " + problem);
    const prunus::click::Click model(d);
    const std::vector<float>&X = own["X"].floats, &expected = own["score"].floats, &slack = own["slack"].floats;
    const Edge edge(X.size() + 1);
    for (const int32_t batch : own["batches"].ints) {
        const size_t n = static_cast<size_t>(batch), first = 7 * n % (expected.size() - n + 1);
        float* dense = edge.last(n * d.n_dense);
        std::copy_n(X.data() + first * d.n_dense, n * d.n_dense, dense);
        const std::vector<uint64_t> asked(ids.begin() + static_cast<std::ptrdiff_t>(first * d.tables.size()),
                                          ids.begin() + static_cast<std::ptrdiff_t>((first + n) * d.tables.size()));
        std::vector<float> scores(n);
        if (model.score(asked.data(), dense, n, scores.data(), 1) != prunus::status_ok)
            found.wrong("a batch of " + std::to_string(n) + " has a status, and should have none");
        for (size_t i = 0; i < n; ++i)
            if (!(std::fabs(scores[i] - expected[first + i]) <= slack[first + i]))
                found.wrong(place(n, i) + " scores " + number(scores[i]) + "; expected " + number(expected[first + i]));
    }
    return own["batches"].ints.size();
}

size_t check(const Case& one, const prunus::Isa& isa, std::vector<float>& scores, Found& found) {
    if (one.own.has("root")) return check_forest(one, isa, scores, found);
    if (one.own.has("click")) return check_click(one, isa, found);
    if (one.own.has("user_items")) return check_recommender(one, isa, found);
    return check_network(one, isa, found);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 2) {
        std::fprintf(stderr, "got %d arguments; expected 1, a golden file\n", count - 1);
        return 2;
    }
    size_t wrong = 0, cases = 0;
    std::map<std::string, size_t> calls;
    try {
        Reader reader(arguments[1]);
        for (Case one; reader.next(one); ++cases) {
            std::vector<float> scores;
            for (const prunus::Isa* isa : prunus::usable_isas()) {
                Found found(one, isa->name);
                calls[isa->name] += check(one, *isa, scores, found);
                if (found.first().empty()) continue;
                std::fprintf(stderr, "%s\n", found.first().c_str());
                ++wrong;
            }
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", arguments[1], error.what());
        return 2;
    }
    for (const auto& set : calls) std::printf("%s: %zu cases, %zu calls\n", set.first.c_str(), cases, set.second);
    return wrong == 0 ? 0 : 1;
}
