"""The operators of a model, found by tracing its forward once with torch.fx: what it calls by module or by function.

Everything that forward does with its input is seen, or the model is refused: an operator without a rule, a branch on a
value, a tensor that forward makes itself, a hook, a change in place of what is used again.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.fx.proxy import TraceError
from torch.nn.utils import parametrize

from raysafe.errors import ModelError
from raysafe.robustness.certify.interval import Interval
from raysafe.robustness.certify.operators import Identity, Nonlinear, Operator
from raysafe.robustness.certify.rules import FUNCTIONS, METHODS, MODULES, Activation, Applied

_SHAPES = {"shape", "ndim"}
_SIZES = {"size", "dim"}
_ARITHMETIC = {getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "truediv", "neg", "getitem")}
_IN_PLACE = {operator.iadd, operator.isub, operator.imul, operator.itruediv}
_VIEWS = {"view", "reshape", "flatten", "contiguous"}
_TRACING = (TraceError, TypeError, RuntimeError, ValueError, AttributeError, NameError, IndexError)


@dataclass(frozen=True)
class Entry:
    """What an operator made of earlier entries, by their numbers. The input's own has no operator."""

    name: str
    operator: Operator | None
    inputs: tuple[int, ...]
    output: Interval


Tighten = Callable[[list[Entry], int, Operator], Interval]
"""Given the entries so far, and the number of the one that a nonlinear operator takes: its box, tightened."""


class Graph:
    """The operators of a model in eval mode; they read the model's parameters anew at each use."""

    def __init__(self, model: nn.Module) -> None:
        """Raises ModelError, naming the operator, where there is no sound bound for what forward does."""
        if not isinstance(model, nn.Module):
            raise ModelError(f"only a torch module's operators can be bounded, got a {type(model).__name__}")
        for name, module in model.named_modules():
            place = f"the model's {name}" if name else "the model"
            if module._forward_hooks or module._forward_pre_hooks:
                raise ModelError(f"{place} has forward hooks, which a bound can't see: remove them")
            if "forward" in vars(module):
                raise ModelError(f"{place} has a forward of its instance's own, which a bound can't see: use a class")
        self.model = model
        training = [module for module in model.modules() if module.training]
        model.eval()
        try:
            self._nodes = list(_Tracer().trace(model).nodes)
        except _TRACING as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise ModelError(
                f"the model's forward can't be traced for bounds ({type(error).__name__}): {reason}"
            ) from None
        finally:
            for module in training:
                module.training = True
        self._dependent = _dependent(self._nodes)
        for node in self._nodes:
            self._check(node)

    def entries(self, inputs: Interval, tighten: Tighten | None = None) -> list[Entry]:
        """Interval arithmetic (Gowal et al. 2018) through all operators; the last entry is the model's output."""
        found = [Entry("input", None, (), inputs)]
        values: dict[fx.Node, Any] = {}
        for node in self._nodes:
            if node.op == "output":
                last = values[node.args[0]].number  # type: ignore[index]
                if last < len(found) - 1:
                    found.append(Entry("output", Identity(), (last,), found[last].output))
                return found
            value = Activation(0, inputs.shape) if node is self._nodes[0] else self._value(node, values)
            if isinstance(value, Applied):
                numbers = tuple(activation.number for activation in value.inputs)
                if tighten and isinstance(value.operator, Nonlinear):
                    for number in numbers:
                        found[number] = replace(found[number], output=tighten(found, number, value.operator))
                output = value.operator.interval(*(found[number].output for number in numbers))
                found.append(Entry(str(node.target), value.operator, numbers, output))
                value = Activation(len(found) - 1, output.shape)
            values[node] = value
        raise AssertionError("a traced graph ends in its output")

    def _value(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        """An operator applied to activations, or a constant."""
        args = map_arg(node.args, lambda inner: values[inner])
        kwargs = map_arg(node.kwargs, lambda inner: values[inner])
        if node.op == "placeholder":
            return node.args[0]
        if node.op == "get_attr":
            return functools.reduce(getattr, str(node.target).split("."), self.model)
        if not _bounded(node, self._dependent):
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            return node.target(*args, **kwargs)  # type: ignore[operator]
        try:
            return self._rule(node)(*args, **kwargs)
        except ModelError as error:
            raise ModelError(f"no bound for the model's {_describe(node, self.model)}: {error}") from None
        except TypeError as error:
            raise ModelError(
                f"no bound for the model's {_describe(node, self.model)} as it is called: {error}"
            ) from None

    def _rule(self, node: fx.Node) -> Callable[..., Applied]:
        if node.op == "call_module":
            module = self.model.get_submodule(str(node.target))
            return MODULES[parametrize.type_before_parametrizations(module)](module)
        return METHODS[str(node.target)] if node.op == "call_method" else FUNCTIONS[node.target]

    def _check(self, node: fx.Node) -> None:
        """Raise ModelError where nothing bounds the node."""
        if node.op == "placeholder":
            if node is not self._nodes[0] and not node.args:
                raise ModelError(f"the model's forward takes more than one input: {node.target} has no default")
        elif node.op == "output":
            if not isinstance(node.args[0], fx.Node) or node.args[0] not in self._dependent:
                raise ModelError("the model's forward must return one tensor that depends on its input: its logits")
        elif node.op == "call_module":
            kind = parametrize.type_before_parametrizations(self.model.get_submodule(str(node.target)))
            self._known(node, kind in MODULES)
        elif _bounded(node, self._dependent):
            self._known(node, node.target in (METHODS if node.op == "call_method" else FUNCTIONS))
        elif node.op == "call_method":
            self._known(node, node.target in _SIZES | set(METHODS))
        elif node.op == "call_function":
            self._known(node, node.target in _ARITHMETIC | set(FUNCTIONS) or _is_shape(node))
        if _changes_in_place(node, self.model) and _used_elsewhere(node):
            raise ModelError(
                f"no bound for the model's {_describe(node, self.model)}: it changes in place what is used again; make "
                "it a copy"
            )

    def _known(self, node: fx.Node, known: bool) -> None:
        if not known:
            raise ModelError(
                f"no bound for the model's {_describe(node, self.model)}: there are bounds for "
                f"{', '.join(sorted(kind.__name__ for kind in MODULES))}, sums, and scales and shifts by constants"
            )


class _Tracer(fx.Tracer):
    """Buffers are read anew at each use, as parameters are; a tensor that forward makes itself is refused."""

    proxy_buffer_attributes = True

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, Tensor) and not isinstance(a, nn.Parameter):
            known = any(a is buffer for buffer in self.root.buffers()) or self.tensor_attrs.get(a) is not None
            if not known:
                raise ModelError(
                    f"the model's forward makes a tensor of shape {tuple(a.shape)} itself, which may differ each time: "
                    "register it as a buffer"
                )
        return super().create_arg(a)


def _dependent(nodes: list[fx.Node]) -> set[fx.Node]:
    """What depends on the values of the input, not on its shape alone."""
    found = {nodes[0]}
    for node in nodes[1:]:
        if not _is_shape(node) and any(inner in found for inner in node.all_input_nodes):
            found.add(node)
    return found


def _bounded(node: fx.Node, dependent: set[fx.Node]) -> bool:
    return node.op == "call_module" or node in dependent


def _is_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _SIZES
    return node.op == "call_function" and node.target is getattr and node.args[1] in _SHAPES


def _describe(node: fx.Node, model: nn.Module) -> str:
    if node.op == "call_module":
        return f"{node.target} ({type(model.get_submodule(str(node.target))).__name__})"
    return f"{'.' if node.op == 'call_method' else ''}{getattr(node.target, '__name__', node.target)}()"


def _changes_in_place(node: fx.Node, model: nn.Module) -> bool:
    if node.op == "call_module":
        return bool(getattr(model.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_")
    return node.op == "call_function" and (node.target in _IN_PLACE or bool(node.kwargs.get("inplace")))


def _used_elsewhere(node: fx.Node) -> bool:
    """Whether what the node changes, or what that is a view of, has another use."""
    changed = node.args[0]
    while isinstance(changed, fx.Node) and changed.op not in ("placeholder", "get_attr"):
        if len(changed.users) > 1:
            return True
        name = changed.target if isinstance(changed.target, str) else getattr(changed.target, "__name__", "")
        if changed.op != "call_module" and name not in _VIEWS:
            return False
        changed = changed.args[0]
    return isinstance(changed, fx.Node) and len(changed.users) > 1
