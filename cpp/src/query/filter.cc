#include "query/filter.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "query/block_test.h"
#include "query/lexer.h"
#include "query/literal.h"
#include "query/matchers.h"
#include "query/pattern.h"
#include "spanbox/query.h"

namespace spanbox {
namespace {

constexpr std::string_view kOperators = "== != < <= > >= in ~";

class Parser {
 public:
  Parser(std::string_view text, About about) : text_(text), about_(about), lexer_(text) {}

  Result<FilterNode> Parse() {
    SPANBOX_RETURN_IF_ERROR(Advance());
    SPANBOX_ASSIGN_OR_RETURN(FilterNode node, Or(0));
    if (token_.kind != TokenKind::kEnd) {
      return Error("expected and, or, or the end, not " + Quoted(token_.written));
    }
    return node;
  }

  std::size_t relatives_tests() const { return relatives_tests_; }

 private:
  Status Error(const std::string& what) const { return ErrorAt(text_, token_.position, what); }

  Status Advance() {
    previous_ = std::move(token_);
    SPANBOX_ASSIGN_OR_RETURN(token_, lexer_.Next());
    return OkStatus();
  }

  Result<FilterNode> Or(std::size_t depth) { return Chain(FilterNode::Kind::kOr, "or", depth); }
  Result<FilterNode> And(std::size_t depth) { return Chain(FilterNode::Kind::kAnd, "and", depth); }

  Result<FilterNode> Chain(FilterNode::Kind kind, std::string_view keyword, std::size_t depth) {
    const auto operand = [&] { return kind == FilterNode::Kind::kOr ? And(depth) : Not(depth); };
    SPANBOX_ASSIGN_OR_RETURN(FilterNode first, operand());
    if (!token_.Is(keyword)) return first;
    FilterNode node;
    node.kind = kind;
    node.children.push_back(std::move(first));
    while (token_.Is(keyword)) {
      SPANBOX_RETURN_IF_ERROR(Advance());
      SPANBOX_ASSIGN_OR_RETURN(FilterNode next, operand());
      node.children.push_back(std::move(next));
    }
    return node;
  }

  Result<FilterNode> Not(std::size_t depth) {
    const bool negation = token_.Is("not");
    const bool quantified = AtQuantifier();
    if (!negation && !quantified && token_.kind != TokenKind::kOpen) return ParseTerm();
    if (depth == kMaxDepth) return Error("the filter is nested more than " + std::to_string(kMaxDepth) + " deep");
    if (quantified) return Quantified(depth + 1);
    const std::size_t open = token_.position;
    SPANBOX_RETURN_IF_ERROR(Advance());
    if (negation) {
      SPANBOX_ASSIGN_OR_RETURN(FilterNode inner, Not(depth + 1));
      return Negated(std::move(inner));
    }
    SPANBOX_ASSIGN_OR_RETURN(FilterNode inner, Or(depth + 1));
    if (token_.kind == TokenKind::kEnd) return ErrorAt(text_, open, "this ( is never closed");
    if (token_.kind != TokenKind::kClose) return Error("expected and, or, or ), not " + Quoted(token_.written));
    SPANBOX_RETURN_IF_ERROR(Advance());
    return inner;
  }

  // any, all or count with a parenthesis after it; alone they are names of attributes.
  bool AtQuantifier() const {
    if (!token_.Is("any") && !token_.Is("all") && !token_.Is("count")) return false;
    Lexer ahead = lexer_;
    const auto next = ahead.Next();
    return next.ok() && next->kind == TokenKind::kOpen;
  }

  // any(children, filter), all(children, filter), count(children, filter) == 2; any and count also without a filter.
  Result<FilterNode> Quantified(std::size_t depth) {
    if (++terms_ > kMaxTerms) return Error("the filter has more than " + std::to_string(kMaxTerms) + " terms");
    if (about_ == About::kScores) return Error("scores have no relatives; ask spans");
    const Token quantifier = token_;
    FilterNode node;
    node.kind = FilterNode::Kind::kRelatives;
    node.relatives.position = token_.position;
    SPANBOX_RETURN_IF_ERROR(Advance());
    const std::size_t open = token_.position;
    SPANBOX_RETURN_IF_ERROR(Advance());
    SPANBOX_RETURN_IF_ERROR(ReadRelation(node.relatives));
    if (token_.kind == TokenKind::kComma) {
      SPANBOX_RETURN_IF_ERROR(Advance());
      SPANBOX_ASSIGN_OR_RETURN(node.children.emplace_back(), Or(depth));
    } else if (quantifier.Is("all")) {
      return Error("expected a filter, as in all(children, status == ok)");
    }
    if (token_.kind == TokenKind::kEnd) return ErrorAt(text_, open, "this ( is never closed");
    if (token_.kind != TokenKind::kClose) {
      return Error(std::string(node.children.empty() ? "expected , or )" : "expected and, or, or )") + ", not " +
                   Quoted(token_.written));
    }
    SPANBOX_RETURN_IF_ERROR(Advance());
    node.relatives.low = 1;
    node.relatives.high = std::numeric_limits<std::int64_t>::max();
    if (quantifier.Is("all")) {
      node.children.front() = Negated(std::move(node.children.front()));
      node.relatives.low = node.relatives.high = 0;
    }
    bool negated = false;
    if (quantifier.Is("count")) {
      SPANBOX_ASSIGN_OR_RETURN(negated, ReadCount(node.relatives));
    }
    node.relatives.index = relatives_tests_++;
    return negated ? Negated(std::move(node)) : std::move(node);
  }

  Status ReadRelation(RelativesTest& test) {
    constexpr std::pair<std::string_view, Relation> kRelations[] = {{"children", Relation::kChildren},
                                                                    {"descendants", Relation::kDescendants},
                                                                    {"parent", Relation::kParent},
                                                                    {"ancestors", Relation::kAncestors},
                                                                    {"siblings", Relation::kSiblings}};
    for (const auto& [name, relation] : kRelations) {
      if (!token_.Is(name)) continue;
      test.relation = relation;
      return Advance();
    }
    return Error("expected children, descendants, parent, ancestors or siblings");
  }

  // == 2, > 3 and so on. True: != 2, the range is of the opposite.
  Result<bool> ReadCount(RelativesTest& test) {
    constexpr TokenKind kComparisons[] = {TokenKind::kEqual,     TokenKind::kNotEqual, TokenKind::kLess,
                                          TokenKind::kLessEqual, TokenKind::kGreater,  TokenKind::kGreaterEqual};
    const TokenKind operation = token_.kind;
    if (std::ranges::find(kComparisons, operation) == std::end(kComparisons)) {
      return Error("expected a comparison after count(...), as in count(children) > 3");
    }
    SPANBOX_RETURN_IF_ERROR(Advance());
    if (token_.kind != TokenKind::kNumber || token_.unit != Unit::kNone || !token_.is_integer || token_.integer < 0) {
      return Error("a count of spans compares with a whole number, such as 3");
    }
    const std::int64_t number = token_.integer;
    const bool less = operation == TokenKind::kLess, more = operation == TokenKind::kGreater;
    if (less || operation == TokenKind::kLessEqual) {
      test.low = 0;
      test.high = less ? number - 1 : number;
    } else if (more || operation == TokenKind::kGreaterEqual) {
      test.low = more && number < test.high ? number + 1 : number;
    } else {
      test.low = test.high = number;
    }
    SPANBOX_RETURN_IF_ERROR(Advance());
    return operation == TokenKind::kNotEqual;
  }

  static FilterNode Negated(FilterNode inner) {
    FilterNode node;
    node.kind = FilterNode::Kind::kNot;
    node.children.push_back(std::move(inner));
    return node;
  }

  Result<FilterNode> ParseTerm() {
    if (++terms_ > kMaxTerms) return Error("the filter has more than " + std::to_string(kMaxTerms) + " terms");
    FilterNode node;
    if (token_.kind == TokenKind::kString) {
      SPANBOX_RETURN_IF_ERROR(Contains(node.term));
    } else if (token_.kind == TokenKind::kName && !IsKeyword(token_)) {
      SPANBOX_RETURN_IF_ERROR(ReadColumn(node.term));
      SPANBOX_RETURN_IF_ERROR(Operation(node.term));
    } else {
      const std::string found = token_.kind == TokenKind::kEnd ? "the end" : Quoted(token_.written);
      return Error("expected a column, as in model == \"gpt-5\", not " + found);
    }
    return node;
  }

  static bool IsKeyword(const Token& token) {
    constexpr std::string_view kKeywords[] = {"and", "or", "not", "in", "none", "true", "false"};
    return std::ranges::any_of(kKeywords, [&](std::string_view keyword) { return token.Is(keyword); });
  }

  Status ReadColumn(Term& term) {
    if (token_.kind != TokenKind::kName || IsKeyword(token_)) {
      return Error("expected a column after " + Quoted(previous_.written));
    }
    term.position = token_.position;
    term.info = FindColumnOf(about_, token_.text);
    term.column = term.info != nullptr ? std::string(term.info->name) : token_.text;
    written_ = token_.text;
    return Advance();
  }

  // "text" in column, "text" not in column
  Status Contains(Term& term) {
    const Token text = token_;
    SPANBOX_RETURN_IF_ERROR(Advance());
    term.negated = token_.Is("not");
    if (term.negated) SPANBOX_RETURN_IF_ERROR(Advance());
    if (!token_.Is("in"))
      return Error("expected in after " + Quoted(previous_.written) + ", as in \"refund\" in output");
    SPANBOX_RETURN_IF_ERROR(Advance());
    SPANBOX_RETURN_IF_ERROR(ReadColumn(term));
    term.comparison = Comparison::kContains;
    SPANBOX_RETURN_IF_ERROR(CheckSearchable(term, "in"));
    if (text.text.empty())
      return ErrorAt(text_, text.position, "empty text is in every text: write " + Shown(written_) + " != none");
    Literal literal;
    literal.type = Literal::Type::kText;
    literal.text = text.text;
    term.values.push_back(std::move(literal));
    const auto blocks = std::make_shared<BlockTest>();
    blocks->AddText(text.text);
    blocks->AddText(InsideJson(text.text));
    term.blocks = blocks;
    return OkStatus();
  }

  Status CheckSearchable(const Term& term, std::string_view operation) const {
    if (HoldsText(ClassOf(term.info))) return OkStatus();
    return ErrorAt(text_, term.position,
                   Ticked(written_) + " " + std::string(Nature(ClassOf(term.info))) + ": " + std::string(operation) +
                       " searches text");
  }

  Status Operation(Term& term) {
    const Token operation = token_;
    switch (operation.kind) {
      case TokenKind::kEqual:
        term.comparison = Comparison::kEqual;
        break;
      case TokenKind::kNotEqual:
        term.negated = true;
        break;
      case TokenKind::kLess:
        term.comparison = Comparison::kLess;
        break;
      case TokenKind::kLessEqual:
        term.comparison = Comparison::kLessEqual;
        break;
      case TokenKind::kGreater:
        term.comparison = Comparison::kGreater;
        break;
      case TokenKind::kGreaterEqual:
        term.comparison = Comparison::kGreaterEqual;
        break;
      case TokenKind::kMatches:
        return Matches(term);
      default:
        if (token_.Is("in") || token_.Is("not")) return In(term);
        return Error("expected one of " + std::string(kOperators) + " after " + Quoted(previous_.written));
    }
    SPANBOX_RETURN_IF_ERROR(Advance());
    if (token_.Is("none")) {
      if (term.comparison != Comparison::kEqual) return Error("none compares with == and != only");
      term.comparison = Comparison::kPresent;
      term.negated = !term.negated;
      return Advance();
    }
    const Token value = token_;
    SPANBOX_RETURN_IF_ERROR(ReadValue(term));
    const bool ordered = term.comparison != Comparison::kEqual;
    if (ordered && !HasOrder(ClassOf(term.info), term.values.back())) {
      return ErrorAt(
          text_, operation.position,
          Ticked(written_) + " compares with == and != only" + (value.kind == TokenKind::kString ? "" : " here"));
    }
    return OkStatus();
  }

  Status Matches(Term& term) {
    SPANBOX_RETURN_IF_ERROR(CheckSearchable(term, "~"));
    SPANBOX_RETURN_IF_ERROR(Advance());
    if (token_.kind != TokenKind::kString) return Error("expected a regular expression in quotes after ~");
    auto regex = CompilePattern(token_.text);
    if (!regex.ok()) return Error(regex.status().message());
    term.comparison = Comparison::kMatches;
    term.regex = *regex;
    const auto blocks = std::make_shared<BlockTest>();
    blocks->AddRegex(**regex);
    term.blocks = blocks;
    return Advance();
  }

  Status In(Term& term) {
    if (token_.Is("not")) {
      term.negated = true;
      SPANBOX_RETURN_IF_ERROR(Advance());
      if (!token_.Is("in")) return Error("expected in after \"not\"");
    }
    SPANBOX_RETURN_IF_ERROR(Advance());
    if (token_.kind != TokenKind::kOpenList) return Error("expected a list after in: write [\"a\", \"b\"]");
    do {
      SPANBOX_RETURN_IF_ERROR(Advance());
      if (token_.kind == TokenKind::kCloseList && term.values.empty()) return Error("a list cannot be empty");
      if (term.values.size() == kMaxListValues) {
        return Error("the list has more than " + std::to_string(kMaxListValues) + " values");
      }
      SPANBOX_RETURN_IF_ERROR(ReadValue(term));
    } while (token_.kind == TokenKind::kComma);
    if (token_.kind != TokenKind::kCloseList) return Error("expected , or ] after " + Quoted(previous_.written));
    return Advance();
  }

  Status ReadValue(Term& term) {
    auto literal = LiteralFor(ClassOf(term.info), written_, token_, previous_);
    if (!literal.ok()) return Error(literal.status().message());
    term.values.push_back(*std::move(literal));
    return Advance();
  }

  std::string_view text_;
  const About about_;
  Lexer lexer_;
  Token token_, previous_;
  std::string written_;  // the column of the term being read, as the user calls it
  std::size_t terms_ = 0;
  std::size_t relatives_tests_ = 0;
};

// Levenshtein's distance, one row at a time.
std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

const ColumnInfo* FindColumnOf(About about, std::string_view name) {
  const bool is_time = about == About::kScores && (name == "at" || name == "at_ns");
  return FindColumn(is_time ? "start_ns" : name);
}

Result<Filter> ParseFilter(std::string_view text, About about) {
  Filter filter;
  if (text.size() > kMaxFilterBytes) {
    return InvalidArgument("the filter has " + std::to_string(text.size()) + " bytes: at most " +
                           std::to_string(kMaxFilterBytes) + " are allowed");
  }
  filter.text = text;
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return filter;
  Parser parser(filter.text, about);
  SPANBOX_ASSIGN_OR_RETURN(filter.root, parser.Parse());
  filter.relatives_tests = parser.relatives_tests();
  filter.everything = false;
  return filter;
}

Status CheckFilter(std::string_view filter, About about) {
  auto parsed = ParseFilter(filter, about);
  return parsed.ok() ? OkStatus() : parsed.status();
}

std::string_view ClosestColumn(std::string_view name) {
  std::string_view closest;
  std::size_t least = std::min<std::size_t>(3, name.size());
  if (name.size() > 32) return closest;
  for (const ColumnInfo& info : Columns()) {
    for (const std::string_view candidate : {info.alias, info.name}) {
      if (candidate.empty()) continue;
      const std::size_t distance = EditDistance(name, candidate);
      if (distance < least) {
        least = distance;
        closest = candidate;
      }
    }
  }
  return closest;
}

}  // namespace spanbox
