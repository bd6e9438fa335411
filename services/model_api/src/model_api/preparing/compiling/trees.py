"""Trees as arrays and as an ONNX graph; corrects the order in which treelite sums."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from model_api.model.untyped import Estimator

# The newest opset whose ensembles of trees have several weights per leaf.
_OPSETS = {"": 21, "ai.onnx.ml": 3}
_IR_VERSION = 10


@dataclass(frozen=True)
class Table:
    """Trees of scikit-learn, node after node.

    Attributes:
        roots: (trees) the place of each tree's root.
        feature: (nodes) the column that a node tests; a leaf tests column 0.
        threshold: (nodes) the largest value that goes left; a leaf's is infinite.
        left, right: (nodes) where a value goes; a leaf's is itself.
        missing_left: (nodes) whether NaN goes left.
        weights: (nodes, outputs) the number that a leaf adds to each output.
        base: (outputs) the initial sums.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    missing_left: np.ndarray
    weights: np.ndarray
    base: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by their names."""
        return asdict(self)


def stack(
    grown: Sequence[Estimator],
    outputs: int,
    scale: float = 1.0,
    base: np.ndarray | None = None,
    turns: bool = False,
) -> Table:
    """Return the table of trees, each a ``tree_`` of scikit-learn.

    Args:
        grown: the trees, in the order in which scikit-learn adds them up.
        outputs: the number of outputs per row.
        scale: factor of the leaves' weights.
        base: the initial sums; zero by default.
        turns: whether each tree adds to one output, in turn; otherwise each adds to all.
    """
    starts = np.cumsum([0] + [tree.node_count for tree in grown])
    parts: dict[str, list[np.ndarray]] = {}
    for number, (tree, start) in enumerate(zip(grown, starts, strict=False)):
        leaf = tree.children_left < 0
        own = np.arange(tree.node_count)
        weights = np.zeros((tree.node_count, outputs))
        if turns:
            weights[leaf, number % outputs] = scale * tree.value[leaf, 0, 0]
        else:
            weights[leaf] = tree.value[leaf, 0, :outputs]
        columns = {
            "feature": np.where(leaf, 0, tree.feature),
            "threshold": np.where(leaf, np.inf, tree.threshold),
            "left": start + np.where(leaf, own, tree.children_left),
            "right": start + np.where(leaf, own, tree.children_right),
            "missing_left": tree.missing_go_to_left.astype(bool) | leaf,
            "weights": weights,
        }
        for name, values in columns.items():
            parts.setdefault(name, []).append(values)
    return Table(
        roots=starts[:-1],
        base=np.zeros(outputs) if base is None else np.asarray(base, np.float64),
        **{name: np.concatenate(values) for name, values in parts.items()},
    )


def graph(table: Table) -> bytes:
    """Return the ONNX graph that sums the trees in 64 bits, and answers in 32.

    Its input is ``rows``, (rows, columns) in 64 bits; its output has a column for each output.
    """
    from onnx import TensorProto, helper, numpy_helper

    count, outputs = table.weights.shape
    tree = np.searchsorted(table.roots, np.arange(count), side="right") - 1
    start = table.roots[tree]
    leaf = table.left == np.arange(count)
    weights = table.weights.copy()
    # The first tree contains the initial sums, so that the answer is rounded only once.
    weights[: _end(table, 0)][leaf[: _end(table, 0)]] += table.base
    leaves = np.flatnonzero(leaf)
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["rows"],
        ["sums"],
        domain="ai.onnx.ml",
        n_targets=outputs,
        aggregate_function="SUM",
        nodes_treeids=tree.tolist(),
        nodes_nodeids=(np.arange(count) - start).tolist(),
        nodes_featureids=table.feature.tolist(),
        nodes_values_as_tensor=numpy_helper.from_array(np.where(leaf, 0.0, table.threshold)),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_truenodeids=np.where(leaf, 0, table.left - start).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, table.right - start).tolist(),
        nodes_missing_value_tracks_true=np.where(leaf, False, table.missing_left)
        .astype(int)
        .tolist(),
        target_treeids=np.repeat(tree[leaves], outputs).tolist(),
        target_nodeids=np.repeat((leaves - start[leaves]), outputs).tolist(),
        target_ids=list(range(outputs)) * len(leaves),
        target_weights_as_tensor=numpy_helper.from_array(weights[leaves].reshape(-1)),
    )
    model = helper.make_model(
        helper.make_graph(
            [node],
            "trees",
            [helper.make_tensor_value_info("rows", TensorProto.DOUBLE, [None, None])],
            [helper.make_tensor_value_info("sums", TensorProto.FLOAT, [None, outputs])],
        ),
        opset_imports=[helper.make_opsetid(*opset) for opset in _OPSETS.items()],
        ir_version=_IR_VERSION,
    )
    content: bytes = model.SerializeToString()
    return content


def _end(table: Table, tree: int) -> int:
    return int(table.roots[tree + 1]) if tree + 1 < len(table.roots) else len(table.feature)


def start_with_base(model: Estimator) -> None:
    """Make treelite add the initial sums first, as the libraries do, and not last.

    Sums of floats depend on their order, and labels may depend on the last bit.

    Args:
        model: treelite's model, whose trees add to one output each; changed in place.
    """
    header = model.get_header_accessor()
    base = header.get_field("base_scores")
    classes = header.get_field("class_id")
    for output, score in enumerate(base):
        # A tree's class is 0 where there is only one output.
        [first, *_] = np.flatnonzero(classes == output)
        tree = model.get_tree_accessor(int(first))
        leaves = tree.get_field("leaf_value")
        tree.set_field("leaf_value", leaves + leaves.dtype.type(score))
    header.set_field("base_scores", np.zeros_like(base))
