#include "query/literal.h"

namespace spanbox {
namespace {

struct ClassInfo {
  std::string_view nature;
  std::string_view example;
};

ClassInfo InfoOf(ColumnClass column_class) {
  switch (column_class) {
    case ColumnClass::kAttribute:
      return {"is an attribute", "a number, true, false, or text in double quotes"};
    case ColumnClass::kText:
      return {"holds text", "text in double quotes"};
    case ColumnClass::kKind:
      return {"is a kind of span", "one of"};
    case ColumnClass::kStatus:
      return {"is a status", "one of"};
    case ColumnClass::kTime:
      return {"is a time", "2s or 500ms"};
    case ColumnClass::kMoment:
      return {"is a moment", "2026-11-01 or 2026-11-01T10:00:00Z"};
    case ColumnClass::kMoney:
      return {"is an amount in dollars", "$0.01 or 0.01"};
    case ColumnClass::kCount:
      return {"is a number", "a number, such as 1000"};
    case ColumnClass::kTraceId:
      return {"is an id", "32 hexadecimal digits in double quotes"};
    case ColumnClass::kSpanId:
      return {"is an id", "16 hexadecimal digits in double quotes"};
  }
  return {};
}

bool IsBool(const Token& token) { return token.Is("true") || token.Is("false"); }

std::string_view NatureOf(const Token& token) {
  if (IsBool(token)) return "a truth value";
  switch (token.kind) {
    case TokenKind::kString:
      return "text";
    case TokenKind::kDate:
      return "a date";
    case TokenKind::kNumber:
      return token.unit == Unit::kTime ? "a time" : token.unit == Unit::kDollar ? "an amount" : "a number";
    default:
      return "a word";
  }
}

bool Accepts(ColumnClass column_class, const Token& token) {
  const bool number = token.kind == TokenKind::kNumber;
  const bool zero = number && token.unit == Unit::kNone && token.number == 0;
  switch (column_class) {
    // A program may well have stored a user's id or a version as a number.
    case ColumnClass::kText:
      return (number && token.unit == Unit::kNone) || token.kind == TokenKind::kString || IsBool(token);
    case ColumnClass::kAttribute:
      return number || token.kind == TokenKind::kString || IsBool(token);
    case ColumnClass::kTime:
      return zero || (number && token.unit == Unit::kTime);
    case ColumnClass::kMoment:
      return zero || token.kind == TokenKind::kDate;
    case ColumnClass::kMoney:
      return number && token.unit != Unit::kTime;
    case ColumnClass::kCount:
      return number && token.unit == Unit::kNone;
    case ColumnClass::kKind:
    case ColumnClass::kStatus:
      return token.kind == TokenKind::kString || (token.kind == TokenKind::kName && !IsBool(token));
    default:
      return token.kind == TokenKind::kString;
  }
}

Result<Literal> NameOf(ColumnClass column_class, const std::string& column, const std::string& word) {
  constexpr std::string_view kStatuses[] = {"ok", "error", "running", "interrupted"};
  const bool kind = column_class == ColumnClass::kKind;
  const bool known = kind ? SpanKindFromString(word).has_value() : SpanStatusFromString(word).has_value();
  if (!known) {
    std::string message = Quoted(word) + " is no " + column + ": write one of";
    for (const std::string_view name : kind ? SpanKindNames() : std::span<const std::string_view>(kStatuses)) {
      message += ' ';
      message += name;
    }
    return InvalidArgument(std::move(message));
  }
  Literal literal;
  literal.type = Literal::Type::kText;
  literal.text = word;
  return literal;
}

Result<Literal> IdOf(ColumnClass column_class, const std::string& column, const std::string& hex) {
  Literal literal;
  if (column_class == ColumnClass::kTraceId) {
    const auto id = TraceIdFromHex(hex);
    literal.type = Literal::Type::kTraceId;
    if (id.has_value()) literal.trace_id = *id;
    if (id.has_value()) return literal;
  } else {
    const auto id = SpanIdFromHex(hex);
    literal.type = Literal::Type::kSpanId;
    literal.span_id = id.value_or(0);
    if (id.has_value()) return literal;
  }
  return InvalidArgument(Quoted(hex) + " is no " + column + ": write " + std::string(InfoOf(column_class).example));
}

}  // namespace

ColumnClass ClassOf(const ColumnInfo* info) {
  if (info == nullptr) return ColumnClass::kAttribute;
  switch (info->column) {
    case Column::kKind:
      return ColumnClass::kKind;
    case Column::kStatus:
      return ColumnClass::kStatus;
    case Column::kStartNs:
      return ColumnClass::kMoment;
    case Column::kCostUsd:
      return ColumnClass::kMoney;
    default:
      break;
  }
  switch (info->type) {
    case ColumnType::kTraceId:
      return ColumnClass::kTraceId;
    case ColumnType::kSpanId:
      return ColumnClass::kSpanId;
    case ColumnType::kInt:
      return info->name.ends_with("_ns") ? ColumnClass::kTime : ColumnClass::kCount;
    case ColumnType::kFloat:
      return ColumnClass::kCount;
    case ColumnType::kBool:
      return ColumnClass::kAttribute;
    case ColumnType::kString:
    case ColumnType::kText:
      return ColumnClass::kText;
  }
  return ColumnClass::kAttribute;
}

std::string_view Nature(ColumnClass column_class) { return InfoOf(column_class).nature; }

bool HoldsText(ColumnClass column_class) {
  return column_class == ColumnClass::kAttribute || column_class == ColumnClass::kText ||
         column_class == ColumnClass::kKind || column_class == ColumnClass::kStatus;
}

bool HasOrder(ColumnClass column_class, const Literal& value) {
  if (column_class == ColumnClass::kKind || column_class == ColumnClass::kStatus) return false;
  return value.type == Literal::Type::kNumber || value.type == Literal::Type::kText;
}

Result<Literal> LiteralFor(ColumnClass column_class, const std::string& name, const Token& token, const Token& before) {
  const bool word = token.kind == TokenKind::kName;
  if (!word && token.kind != TokenKind::kString && token.kind != TokenKind::kNumber && token.kind != TokenKind::kDate) {
    return InvalidArgument("expected a value after " + Quoted(before.written));
  }
  if (token.Is("none")) return InvalidArgument("none compares with == and != only");
  if (!Accepts(column_class, token)) {
    if (word && !IsBool(token) && (column_class == ColumnClass::kText || column_class == ColumnClass::kAttribute)) {
      return InvalidArgument("text is quoted: write " + Quoted(token.text));
    }
    const bool as_text = column_class == ColumnClass::kText && token.kind == TokenKind::kNumber;
    return InvalidArgument(Ticked(name) + " " + std::string(Nature(column_class)) + ", " + Shown(token.written) +
                           " is " + std::string(NatureOf(token)) + ": write " +
                           (as_text ? Quoted(token.written) : std::string(InfoOf(column_class).example)));
  }
  if (column_class == ColumnClass::kKind || column_class == ColumnClass::kStatus) {
    return NameOf(column_class, name, token.text);
  }
  if (column_class == ColumnClass::kTraceId || column_class == ColumnClass::kSpanId) {
    return IdOf(column_class, name, token.text);
  }
  Literal literal;
  if (token.kind == TokenKind::kString) {
    literal.type = Literal::Type::kText;
    literal.text = token.text;
  } else if (word) {
    literal.type = Literal::Type::kBool;
    literal.boolean = token.Is("true");
  } else {
    literal.is_integer = token.kind == TokenKind::kDate || token.is_integer;
    literal.integer = token.integer;
    literal.number = token.kind == TokenKind::kDate ? static_cast<double>(token.integer) : token.number;
  }
  return literal;
}

}  // namespace spanbox
