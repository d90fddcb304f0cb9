"""Every metric once more, in plain Python from its definition: one query, one hit at a time."""

import math


def is_right(rule, query, image):
    shared, union = len(query & image), len(query | image)
    if not shared:
        return False
    if rule in ("any_overlap", "single_label"):
        return True
    if rule == "exact_set":
        return query == image
    return shared / union >= float(rule.removeprefix("jaccard>="))


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def share(part, whole):
    return part / whole if whole else 0.0


def f1(p, r):
    return 2 * p * r / (p + r) if p + r else 0.0


def average_precision(flags, divisor):
    found, total = 0, 0.0
    for rank, flag in enumerate(flags, 1):
        if flag:
            found += 1
            total += found / rank
    return total / divisor if divisor else 0.0


def dcg(gains):
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def wap(shared):
    right = [rank for rank, count in enumerate(shared, 1) if count]
    return mean(sum(shared[:rank]) / rank for rank in right) if right else 0.0


def nmrr(ranks, ng, gtm, penalty):
    """`ranks` of all right images that were ranked."""
    if ng == 0:
        return 1.0
    k = min(4 * ng, 2 * gtm)
    worst = 1.25 * k if penalty == "1.25 K" else k + 1
    counted = [rank if rank <= k else worst for rank in ranks]
    counted += [worst] * (ng - len(ranks))
    best = 0.5 * (1 + ng)
    return (sum(counted) / ng - best) / (worst - best)


class Query:
    """A query's label set, the label sets that may answer it, its hits' sets (None: no hit)."""

    def __init__(self, labels, gallery, hits):
        self.labels, self.gallery, self.hits = labels, gallery, hits
        self.sets = [hit if hit is not None else set() for hit in hits]
        self.shared = [len(labels & hit) for hit in self.sets]

    def flags(self, rule):
        return [is_right(rule, self.labels, hit) for hit in self.sets]

    def total(self, rule):
        return sum(is_right(rule, self.labels, image) for image in self.gallery)

    def ndcg(self, gain):
        best = sorted((gain(len(self.labels & image)) for image in self.gallery), reverse=True)
        ideal = dcg(best[: len(self.hits)])
        return dcg([gain(count) for count in self.shared]) / ideal if ideal else 0.0


def sets_at_k(queries, classes):
    p = [[share(s, len(hit)) for s, hit in zip(q.shared, q.sets, strict=True)] for q in queries]
    r = [[share(s, len(q.labels)) for s in q.shared] for q in queries]
    grand_p, grand_r = mean(map(mean, p)), mean(map(mean, r))
    pairs = [(a, b) for ps, rs in zip(p, r, strict=True) for a, b in zip(ps, rs, strict=True)]
    return {
        "f1_micro_sets": f1(grand_p, grand_r),
        "f1_pair_mean": mean(f1(*pair) for pair in pairs),
        "precision_sets": grand_p,
        "recall_sets": grand_r,
        "jaccard": mean(
            share(len(q.labels & h), len(q.labels | h)) for q in queries for h in q.sets
        ),
        "hamming": mean(len(q.labels ^ h) / classes for q in queries for h in q.sets),
        "acg_at_k": mean(mean(q.shared) for q in queries),
        "wmap_at_k": mean(wap(q.shared) for q in queries),
        "ndcg_at_k": mean(q.ndcg(lambda count: count) for q in queries),
        "ndcg_exp_at_k": mean(q.ndcg(lambda count: 2**count - 1) for q in queries),
    }


def ranked_at_k(queries, rule):
    out = {}
    flags, totals = [q.flags(rule) for q in queries], [q.total(rule) for q in queries]
    k = len(flags[0])
    p = [sum(row) / k for row in flags]
    r = [share(sum(row), total) for row, total in zip(flags, totals, strict=True)]
    out["precision_at_k"], out["recall_at_k"] = mean(p), mean(r)
    out["f1_ir"] = f1(mean(p), mean(r))
    out["f1_ir_query_mean"] = mean(f1(*pair) for pair in zip(p, r, strict=True))
    both = list(zip(flags, totals, strict=True))
    out["map_at_k"] = mean(average_precision(row, min(k, total)) for row, total in both)
    out["map_at_k_found"] = mean(average_precision(row, sum(row)) for row, _ in both)
    out["map_at_k_all"] = mean(average_precision(row, total) for row, total in both)
    return ending(out, rule)


def classes_at_k(queries, classes):
    """(queries, images, P, R, AP) of each class, None for figures of a class without queries."""
    out = []
    for label in range(classes):
        asked = [q for q in queries if label in q.labels]
        p, r, ap = [], [], []
        for q in asked:
            flags = [label in hit for hit in q.sets]
            total = sum(label in image for image in q.gallery)
            p.append(sum(flags) / len(flags))
            r.append(share(sum(flags), total))
            ap.append(average_precision(flags, min(len(flags), total)))
        figures = (mean(p), mean(r), mean(ap)) if asked else (None, None, None)
        out.append((len(asked), *figures))
    return out


def at_k(queries, classes, rules=("any_overlap",)):
    out = sets_at_k(queries, classes)
    for rule in rules:
        out |= ranked_at_k(queries, rule)
    known = [line for line in classes_at_k(queries, classes) if line[0]]
    for place, name in enumerate(("precision_at_k", "recall_at_k", "map_at_k"), 1):
        out[f"macro_{name}"] = mean(line[place] for line in known) if known else 0.0
    return out


def whole_gallery(queries, rules=("any_overlap",)):
    out = {
        "wmap_full": mean(wap(q.shared) for q in queries),
        "ndcg_full": mean(q.ndcg(lambda count: count) for q in queries),
        "ndcg_exp_full": mean(q.ndcg(lambda count: 2**count - 1) for q in queries),
    }
    for rule in rules:
        flags, totals = [q.flags(rule) for q in queries], [q.total(rule) for q in queries]
        both = list(zip(flags, totals, strict=True))
        ranks = [[rank for rank, flag in enumerate(row, 1) if flag] for row in flags]
        found = {
            "map_full": mean(average_precision(row, total) for row, total in both),
            "r_precision": mean(share(sum(row[:total]), total) for row, total in both),
        }
        for name, penalty in (("anmrr", "1.25 K"), ("anmrr_k_plus_1", "K + 1")):
            found[name] = mean(
                nmrr(where, total, max(totals), penalty)
                for where, total in zip(ranks, totals, strict=True)
            )
        out |= ending(found, rule)
    return out


def ending(scores, rule):
    return {name if rule == "any_overlap" else f"{name}/{rule}": v for name, v in scores.items()}


def queries_of(query_labels, gallery_labels, ranking, excluded=()):
    """From label matrices and rows; `excluded` lists the rows that may not answer each query."""
    images = [set(map(int, row.nonzero()[0])) for row in gallery_labels]
    out = []
    for number, (labels, hits) in enumerate(zip(query_labels, ranking, strict=True)):
        gone = set(excluded[number]) if excluded else set()
        left = [row for row in hits if row not in gone]
        left += [-1] * (len(hits) - len(left))
        sets = [images[row] if row >= 0 else None for row in left]
        known = [image for row, image in enumerate(images) if row not in gone]
        out.append(Query(set(map(int, labels.nonzero()[0])), known, sets))
    return out
