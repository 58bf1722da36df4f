"""Groups of chunks of the chunked scan (:mod:`hmamba.model.scan`), whose shape suffixes apply.

A group is computed in two parts, forward and backward. The first part does not depend on the other groups of the same
rows. It gives what the group adds to the state, from which the states between groups follow. The second part needs the
state that enters the group, and then is independent of the other groups too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hmamba.model.decays import Decays

Across = tuple[Tensor, Tensor]
"""How a state crosses a group: the state (B, H, N, P) that the group adds, and the decay (B, H) of one that enters."""


def _product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Matrix product with all dimensions before the last two as one batch."""
    product = torch.bmm(left.to(dtype).flatten(0, -3), right.to(dtype).flatten(0, -3))
    return product.view(*left.shape[:-1], right.shape[-1])


def _sum(weight_BHC: Tensor, states_BHCNP: Tensor) -> Tensor:
    """Weighted sum (B, H, N, P) of the states of chunks, in their type."""
    if states_BHCNP.shape[2] == 1:  # the weight is 1
        return states_BHCNP[:, :, 0]
    sum_BH1X = _product(weight_BHC[..., None, :], states_BHCNP.flatten(-2), states_BHCNP.dtype)
    return sum_BH1X.view_as(states_BHCNP[:, :, 0])


def _add_product(onto: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Add the matrix product to ``onto`` in place."""
    onto.flatten(0, -3).baddbmm_(left.to(onto.dtype).flatten(0, -3), right.to(onto.dtype).flatten(0, -3))
    return onto


class Grads(NamedTuple):
    """Gradients of a group's inputs.

    Attributes:
        x: (B, H, C, Q, P).
        B: (B, 1, C, Q, N).
        C: (B, 1, C, Q, N).
        dt: (B, H, C, Q) gradient of dt as a factor of x.
        log: (B, H, C, Q) gradient of the log decay of each token.
    """

    x: Tensor
    B: Tensor
    C: Tensor
    dt: Tensor
    log: Tensor


class Group(NamedTuple):
    """Chunks that are computed at once: some of one row, or all of several rows.

    Attributes:
        x: (B, H, C, Q, P) input of the state space.
        B: (B, 1, C, Q, N) input projection.
        C: (B, 1, C, Q, N) output projection.
        decays: decays of these chunks.
        dtype: type of the matrix products.
    """

    x: Tensor
    B: Tensor
    C: Tensor
    decays: Decays
    dtype: torch.dtype

    def step(self) -> Tensor:
        """The inputs dt x, contiguous by head whatever the layout of x."""
        return torch.mul(self.x, self.decays.dt[..., None], out=self.x.new_empty(self.x.shape))

    def shared(self, seen: Tensor) -> Tensor:
        """C B^T times the mask ``seen``: (B, 1, C, Q, Q), shared by all heads."""
        return _product(self.C, self.B.transpose(-1, -2), self.dtype).mul_(seen)

    def add(self) -> tuple[tuple[Tensor, Tensor], Across]:
        """Compute what does not depend on the state that enters the group.

        Returns:
            The inputs dt x, and the states that each chunk adds at its end (B, H, C, N, P); and how a state crosses the
            group: the state that all chunks add at its end, and its decay.
        """
        step_BHCQP = self.step()
        added_BHCNP = _product((self.B * self.decays.to_end[..., None]).transpose(-1, -2), step_BHCQP, self.dtype)
        _, to_end_BHC, carry_BH = self.decays.across()
        return (step_BHCQP, added_BHCNP), (_sum(to_end_BHC, added_BHCNP), carry_BH)

    def output(
        self, D_H11: Tensor, step_BHCQP: Tensor, added_BHCNP: Tensor, state_BHNP: Tensor, y_BHCQP: Tensor
    ) -> Tensor:
        """Write y, and return the states that enter the chunks (B, H, C, N, P).

        Args:
            D_H11: skip connection.
            step_BHCQP: the inputs dt x, from :meth:`add`.
            added_BHCNP: the states that each chunk adds, from :meth:`add`; overwritten.
            state_BHNP: the state that enters the group.
            y_BHCQP: output to write into.
        """
        decays = self.decays
        if added_BHCNP.shape[2] == 1:
            states_BHCNP = state_BHNP[:, :, None]
        else:
            added_BHCNP[:, :, 0].addcmul_(decays.carry[..., :1, None], state_BHNP)
            states_BHCNP = _product(decays.between(), added_BHCNP.flatten(-2), self.dtype).view_as(added_BHCNP)
            states_BHCNP[:, :, 0] = state_BHNP
        left_BHCQQ, seen = decays.inside()
        weight_BHCQQ = left_BHCQQ.mul_(self.shared(seen))
        passed_BHCQP = _product(self.C * decays.from_start[..., None], states_BHCNP, self.dtype)
        torch.addcmul(_add_product(passed_BHCQP, weight_BHCQQ, step_BHCQP), self.x, D_H11[..., None], out=y_BHCQP)
        return states_BHCNP

    def read(self, dy_BHCQP: Tensor) -> tuple[tuple[Tensor, Tensor], Across]:
        """Compute what does not depend on the gradient of the state after the group.

        Returns:
            The gradient of y, contiguous, and the gradients of the states that enter the chunks through the chunk's own
            outputs (B, H, C, N, P); and how a gradient crosses the group, as in :meth:`add`, backward.
        """
        dy_BHCQP = dy_BHCQP.contiguous()
        read_BHCNP = _product((self.C * self.decays.from_start[..., None]).transpose(-1, -2), dy_BHCQP, self.dtype)
        from_start_BHC, _, carry_BH = self.decays.across()
        return (dy_BHCQP, read_BHCNP), (_sum(from_start_BHC, read_BHCNP), carry_BH)

    def backward(
        self,
        D_H11: Tensor,
        dy_BHCQP: Tensor,
        read_BHCNP: Tensor,
        states_BHCNP: Tensor,
        dfinal_BHNP: Tensor,
        grads: Grads,
    ) -> tuple[Tensor, Tensor]:
        """Write the gradients of tokens; return those of D and A (H,), summed over the tokens of the group.

        Args:
            D_H11: skip connection.
            dy_BHCQP: gradient of y, from :meth:`read`.
            read_BHCNP: gradients of the states that enter the chunks, from :meth:`read`; overwritten.
            states_BHCNP: states that :meth:`output` returned.
            dfinal_BHNP: gradient of the state after the last chunk.
            grads: gradients to write into.
        """
        decays, dtype = self.decays, self.dtype
        from_start_BHCQ1, to_end_BHCQ1 = decays.from_start[..., None], decays.to_end[..., None]
        step_BHCQP = self.step()

        # Gradients of the states that leave the chunks, through all outputs that follow.
        if read_BHCNP.shape[2] == 1:
            dleft_BHCNP = dfinal_BHNP[:, :, None]
        else:
            read_BHCNP[:, :, -1].addcmul_(decays.carry[..., -1:, None], dfinal_BHNP)
            dleft_BHCX = _product(decays.between().transpose(-1, -2), read_BHCNP.flatten(-2), dtype)
            dleft_BHCNP = dleft_BHCX.view_as(read_BHCNP)
            dleft_BHCNP[:, :, -1] += dfinal_BHNP

        left_BHCQQ, seen = decays.inside()
        shared_B1CQQ = self.shared(seen)
        dstep_BHCQP = _product(self.B * to_end_BHCQ1, dleft_BHCNP, dtype)
        _add_product(dstep_BHCQP, (shared_B1CQQ * left_BHCQQ).transpose(-1, -2), dy_BHCQP)
        dpair_BHCQQ = _product(dy_BHCQP, step_BHCQP.transpose(-1, -2), dtype).mul_(left_BHCQQ)
        dshared_B1CQQ = dpair_BHCQQ.sum(1, keepdim=True).mul_(seen)
        dB_BHCQN = _product(step_BHCQP, dleft_BHCNP.transpose(-1, -2), dtype).mul_(to_end_BHCQ1)
        dC_BHCQN = _product(dy_BHCQP, states_BHCNP.transpose(-1, -2), dtype).mul_(from_start_BHCQ1)
        grads.B.copy_(_add_product(dB_BHCQN.sum(1, keepdim=True), dshared_B1CQQ.transpose(-1, -2), self.C))
        grads.C.copy_(_add_product(dC_BHCQN.sum(1, keepdim=True), dshared_B1CQQ, self.B))
        torch.mul(dstep_BHCQP, decays.dt[..., None], out=grads.x).addcmul_(dy_BHCQP, D_H11[..., None])

        # Gradients of the decays: between pairs in the chunk, from its start, to its end, and across it.
        dpair_BHCQQ.mul_(shared_B1CQQ.tril(-1))
        dread_BHCQ = dpair_BHCQQ.sum(-1) - dpair_BHCQQ.sum(-2) + dC_BHCQN.mul_(self.C).sum(-1)
        dadded_BHCQ = dB_BHCQN.mul_(self.B).sum(-1)
        ddecay_BHCQ = grads.log.copy_(dread_BHCQ.flip(-1).cumsum(-1).flip(-1))
        ddecay_BHCQ[..., 1:] += dadded_BHCQ.cumsum(-1)[..., :-1]
        ddecay_BHCQ += ((dleft_BHCNP * states_BHCNP).sum((-1, -2)) * decays.carry)[..., None]

        torch.sum(dstep_BHCQP.mul_(self.x), -1, out=grads.dt)
        return (dy_BHCQP * self.x).sum((0, 2, 3, 4)), (ddecay_BHCQ * decays.dt).sum((0, 2, 3))
