r"""Parser of one scalar expression: from tokens to a small tree.

    sum     := ["+"|"-"] product (("+"|"-") product)*
    product := power (("*"|"/"|nothing) power)*
    power   := atom ("!"|"%"|"°")* ["^" argument]
    atom    := number | letter ["_" index] | "(" sum ")" | "|" sum "|" | \frac | \sqrt | \binom
             | function ["^" argument] (bracketed sum | product without functions)

Every bound is checked while parsing. Ambiguous notation is rejected, not guessed: `1/2x`, `2 3`,
`f(x)`, `x2`, `2\frac12 x`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from bard_ray.verify.math.tokens import Kind, Token, UnreadableError

MAX_DEPTH = 24
MAX_DIGITS = 300  # of one number
_FUNCTION_LETTERS = frozenset("fghFGP")  # followed by a bracket they are names of functions
_CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|"}
_NO_ATOM = frozenset("+-*/^_=<>)]},;:!%&") | {"°", "<=", ">=", "!=", "or", "and", "cup", "in", "["}


@dataclass(frozen=True, slots=True)
class Number:
    """A rational number; `decimal` if it was written with a decimal point."""

    value: int | Fraction
    decimal: bool = False


@dataclass(frozen=True, slots=True)
class Name:
    r"""A variable (`x`, `\theta`, `a_1`) or a constant (`pi`, `e`, `i`, `infty`)."""

    text: str
    constant: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator or function, named as its token, and its arguments."""

    name: str
    arguments: tuple[Expression, ...]


Expression = Number | Name | Operation


def read_expression(tokens: Sequence[Token]) -> Expression:
    """Parse all tokens as one scalar expression.

    Raises:
        UnreadableError: the tokens are not one, or are ambiguous or nested too deeply.
    """
    reader = _Reader(tokens)
    tree = reader.sum()
    if reader.position != len(tokens):
        raise UnreadableError
    return tree


_END = Token(Kind.SYMBOL, "")


class _Reader:
    """Recursive descent; `position` is the next token."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = [*tokens, _END]
        self.position = 0
        self._depth = 0
        self._bars = 0  # open absolute values: a bar inside one closes it

    @property
    def next(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.tokens[self.position]
        if token is _END:
            raise UnreadableError
        self.position += 1
        return token

    def accept(self, text: str) -> bool:
        token = self.next
        if token.kind is Kind.SYMBOL and token.text == text:
            self.position += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            raise UnreadableError

    def sum(self) -> Expression:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableError
        terms = [self._signed_product()]
        while self.next.kind is Kind.SYMBOL and self.next.text in ("+", "-"):
            terms.append(self._signed_product())
        self._depth -= 1
        return terms[0] if len(terms) == 1 else Operation("+", tuple(terms))

    def _signed_product(self) -> Expression:
        negative = self.accept("-")
        if not negative:
            self.accept("+")
        tree = self._product()
        return _negated(tree) if negative else tree

    def _product(self) -> Expression:
        tree = self._power()
        while True:
            if self.accept("*"):
                tree = Operation("*", (tree, self._factor()))
            elif self.accept("/"):
                tree = Operation("/", (tree, self._factor()))
                if self._at_atom():  # `1/2x`
                    raise UnreadableError
            elif self._at_atom():
                self._require_product()
                tree = Operation("*", (tree, self._power()))
            else:
                return tree

    def _factor(self) -> Expression:
        """A power with an optional sign: `2 * -3`."""
        return _negated(self._power()) if self.accept("-") else self._power()

    def _require_product(self) -> None:
        """Reject adjacent factors that may not be a product."""
        last, token = self.tokens[self.position - 1], self.next
        if token.kind is Kind.NUMBER:
            raise UnreadableError
        if last.kind is Kind.NUMBER and token.text == "frac":  # a mixed number
            raise UnreadableError
        if last.text in _FUNCTION_LETTERS and token.text == "(":
            raise UnreadableError

    def _at_atom(self) -> bool:
        token = self.next
        if token.kind is not Kind.SYMBOL:
            return token.kind not in (Kind.TEXT, Kind.MATRIX, Kind.FIELD)
        if token.text == "|":
            return not self._bars
        return token.text in ("(", "{", "frac", "sqrt", "binom", "log")

    def _power(self) -> Expression:
        tree = self._atom()
        while self.next.kind is Kind.SYMBOL and self.next.text in ("!", "%", "°"):
            tree = Operation(self.take().text, (tree,))
            if self.next.text == "!":
                raise UnreadableError
        if self.accept("^"):
            tree = Operation("^", (tree, self._exponent()))
            if self.next.kind is Kind.SYMBOL and self.next.text in ("^", "!"):
                raise UnreadableError
            if self.accept("°"):
                tree = Operation("°", (tree,))
        return tree

    def _exponent(self) -> Expression:
        return _negated(self._argument()) if self.accept("-") else self._argument()

    def _argument(self) -> Expression:
        """`{sum}`, or one token."""
        if self.next.text in ("{", "("):
            return self._bracketed()
        token = self.take()
        if token.kind in (Kind.NUMBER, Kind.LETTER, Kind.CONSTANT):
            return _leaf(token)
        raise UnreadableError

    def _bracketed(self) -> Expression:
        opening = self.take().text
        bars, self._bars = self._bars, opening == "|"
        tree = self.sum()
        self.expect(_CLOSING[opening])
        self._bars = bars
        return tree

    def _atom(self) -> Expression:
        token = self.next
        if token.kind is Kind.LETTER:
            return self._letter()
        if token.kind in (Kind.NUMBER, Kind.CONSTANT):
            return _leaf(self.take())
        if token.kind is Kind.FUNCTION:
            return self._function(self.take().text)
        if token.kind is not Kind.SYMBOL:
            raise UnreadableError
        if token.text in ("(", "[", "{"):
            return self._bracketed()
        if token.text == "|" and not self._bars:
            return Operation("abs", (self._bracketed(),))
        return self._command(self.take().text)

    def _command(self, name: str) -> Expression:
        if name == "frac":
            return Operation("/", self._two_arguments())
        if name == "binom":
            return Operation("binom", self._two_arguments())
        if name == "sqrt":
            return self._root()
        if name == "log":
            base = (self._argument(),) if self.accept("_") else ()
            return Operation("log", (*base, self._operand()))
        raise UnreadableError

    def _root(self) -> Expression:
        degree = self._bracketed() if self.next.text == "[" else None
        token = self.next
        if token.kind is Kind.NUMBER and len(token.text) > 1:  # `\sqrt12`
            raise UnreadableError
        radicand = self._argument()
        return Operation("sqrt", (radicand,) if degree is None else (radicand, degree))

    def _two_arguments(self) -> tuple[Expression, Expression]:
        r"""Arguments of \frac and \binom; `\frac12` has two digits in one token."""
        token = self.next
        if token.kind is Kind.NUMBER:
            if token.text.isdigit() and len(token.text) == 2:
                self.position += 1
                return Number(int(token.text[0])), Number(int(token.text[1]))
            if len(token.text) > 1:
                raise UnreadableError
        first = self._argument()
        if self.next.kind is Kind.NUMBER and len(self.next.text) > 1:
            raise UnreadableError
        return first, self._argument()

    def _letter(self) -> Expression:
        token = self.take()
        if not self.accept("_"):
            return Name(token.text, constant=token.text in ("e", "i"))
        return Name(f"{token.text}_{self._index()}")

    def _index(self) -> str:
        if not self.accept("{"):
            return self._index_part()
        parts = [self._index_part()]
        while not self.accept("}"):
            parts.append(self._index_part())
        return "".join(parts)

    def _index_part(self) -> str:
        token = self.take()
        if token.kind in (Kind.NUMBER, Kind.LETTER, Kind.TEXT) or token.text in ("+", "-", ","):
            return token.text
        raise UnreadableError

    def _function(self, name: str) -> Expression:
        if not self.accept("^"):
            return Operation(name, (self._operand(),))
        exponent = self._exponent()
        operand = self._operand()
        if exponent == Number(-1):
            if name not in ("sin", "cos", "tan"):
                raise UnreadableError
            return Operation(f"arc{name}", (operand,))
        return Operation("^", (Operation(name, (operand,)), exponent))

    def _operand(self) -> Expression:
        r"""The argument of a function: one bracket, or factors up to the next operator."""
        if self.next.text in ("(", "{", "["):
            return self._bracketed()
        if self.next.kind is Kind.SYMBOL and self.next.text == "-":
            raise UnreadableError
        tree = self._power()
        while self._at_atom() and self.next.kind is not Kind.FUNCTION and self.next.text != "log":
            if self.next.text == "(":  # `\sin x(1+x)`
                raise UnreadableError
            self._require_product()
            tree = Operation("*", (tree, self._power()))
        if self.next.text == "/":  # `\sin x/2`
            raise UnreadableError
        return tree


def _leaf(token: Token) -> Expression:
    if token.kind is Kind.NUMBER:
        return _number(token.text)
    if token.kind is Kind.CONSTANT:
        return Name(token.text, constant=True)
    return Name(token.text, constant=token.text in ("e", "i"))


def _number(text: str) -> Number:
    if len(text) > MAX_DIGITS:
        raise UnreadableError
    whole, point, places = text.partition(".")
    if not places:
        return Number(int(whole), decimal=False)
    return Number(Fraction(int(whole + places), 10 ** len(places)), decimal=bool(point))


def _negated(tree: Expression) -> Expression:
    if isinstance(tree, Number):
        return Number(-tree.value, tree.decimal)
    return Operation("neg", (tree,))
