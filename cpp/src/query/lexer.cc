#include "query/lexer.h"

#include <charconv>
#include <chrono>
#include <cmath>

#include "base/utf8.h"

namespace spanbox {
namespace {

constexpr std::size_t kMaxShown = 40;  // bytes of a name or value that a message repeats

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// One printable line of valid UTF-8, character for character, so that a caret can stand under any of them.
std::string OneLine(std::string_view text) {
  std::string line;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = Utf8Length(text, i);
    if (length == 0) {
      line += '?';
    } else if (length == 1) {
      line += text[i] >= ' ' && text[i] != 0x7F ? text[i] : ' ';
    } else {
      line += text.substr(i, length);
    }
    i += length == 0 ? 1 : length;
  }
  return line;
}

std::size_t Characters(std::string_view text) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < text.size(); ++n) {
    const std::size_t length = Utf8Length(text, i);
    i += length == 0 ? 1 : length;
  }
  return n;
}

struct UnitName {
  std::string_view name;
  double ns;
};
constexpr UnitName kUnits[] = {{"ns", 1},   {"us", 1e3},   {"ms", 1e6},   {"s", 1e9},
                               {"m", 6e10}, {"h", 3.6e12}, {"d", 8.64e13}};

}  // namespace

Status ErrorAt(std::string_view filter, std::size_t position, const std::string& what) {
  const std::size_t before = Characters(filter.substr(0, position));
  return InvalidArgument("column " + std::to_string(before + 1) + ": " + what + "\n" + OneLine(filter) + "\n" +
                         std::string(before, ' ') + "^");
}

std::string Shown(std::string_view text) {
  if (text.size() <= kMaxShown) return OneLine(text);
  std::size_t cut = kMaxShown;
  while (cut > 0 && IsUtf8Continuation(text[cut])) --cut;
  return OneLine(text.substr(0, cut)) + "...";
}

std::string Quoted(std::string_view text) { return std::string("\"").append(Shown(text)).append("\""); }
std::string Ticked(std::string_view text) { return std::string("`").append(Shown(text)).append("`"); }

Token Lexer::Made(TokenKind kind, std::size_t begin) const {
  Token token;
  token.kind = kind;
  token.position = begin;
  token.written = text_.substr(begin, at_ - begin);
  return token;
}

Result<Token> Lexer::Next() {
  while (at_ < text_.size() && IsSpace(text_[at_])) ++at_;
  if (at_ == text_.size()) return Made(TokenKind::kEnd, at_);
  const char c = text_[at_];
  if (IsLetter(c)) return Name();
  if (c == '`') return Backticked();
  if (c == '"' || c == '\'') return String();
  if (AtDate()) return Date();
  const std::size_t sign = c == '-' || c == '+' ? 1 : 0;
  if (c == '$' || IsDigit(At(at_ + sign)) || (At(at_ + sign) == '.' && IsDigit(At(at_ + sign + 1)))) return Number();
  return Operator();
}

Result<Token> Lexer::Name() {
  const std::size_t begin = at_;
  while (IsLetter(At(at_)) || IsDigit(At(at_)) || At(at_) == '.') ++at_;
  Token token = Made(TokenKind::kName, begin);
  token.text = token.written;
  return token;
}

Result<Token> Lexer::Backticked() {
  const std::size_t begin = at_;
  const std::size_t end = text_.find('`', begin + 1);
  if (end == std::string_view::npos) return ErrorAt(text_, begin, "this name has no closing `");
  if (end == begin + 1) return ErrorAt(text_, begin, "a name cannot be empty");
  at_ = end + 1;
  Token token = Made(TokenKind::kName, begin);
  token.text = text_.substr(begin + 1, end - begin - 1);
  token.backticked = true;
  return token;
}

Result<Token> Lexer::String() {
  const std::size_t begin = at_;
  const char quote = text_[at_++];
  std::string value;
  while (at_ < text_.size() && text_[at_] != quote) {
    char c = text_[at_++];
    if (c == '\\') {
      const char escaped = At(at_);
      if (at_ == text_.size()) break;
      ++at_;
      switch (escaped) {
        case 'n':
          c = '\n';
          break;
        case 't':
          c = '\t';
          break;
        case 'r':
          c = '\r';
          break;
        case '\\':
        case '"':
        case '\'':
          c = escaped;
          break;
        default:  // a regular expression's own escape, "\d", stays as it is
          value += '\\';
          c = escaped;
      }
    }
    value += c;
  }
  if (at_ >= text_.size()) return ErrorAt(text_, begin, std::string("this text has no closing ") + quote);
  ++at_;
  Token token = Made(TokenKind::kString, begin);
  token.text = std::move(value);
  return token;
}

Result<Token> Lexer::Number() {
  const std::size_t begin = at_;
  const bool dollar = text_[at_] == '$';
  if (dollar) ++at_;
  if (At(at_) == '+') ++at_;  // from_chars knows no plus
  const std::size_t digits = at_;
  if (At(at_) == '-') ++at_;
  bool whole = IsDigit(At(at_));
  if (!whole && !(At(at_) == '.' && IsDigit(At(at_ + 1)))) return ErrorAt(text_, begin, "expected a number after $");
  while (IsDigit(At(at_))) ++at_;
  if (At(at_) == '.') {
    whole = false;
    ++at_;
    while (IsDigit(At(at_))) ++at_;
  }
  if (At(at_) == 'e' || At(at_) == 'E') {
    const std::size_t sign = At(at_ + 1) == '-' || At(at_ + 1) == '+' ? 1 : 0;
    if (IsDigit(At(at_ + 1 + sign))) {
      whole = false;
      at_ += 1 + sign;
      while (IsDigit(At(at_))) ++at_;
    }
  }
  const char* first = text_.data() + digits;
  const char* last = text_.data() + at_;
  double number = 0;
  if (std::from_chars(first, last, number).ec != std::errc()) {
    return ErrorAt(text_, begin, "the number " + Quoted(text_.substr(begin, at_ - begin)) + " is out of range");
  }
  std::int64_t integer = 0;
  const bool is_integer = whole && std::from_chars(first, last, integer).ec == std::errc();
  Token token = Made(TokenKind::kNumber, begin);
  token.number = number;
  token.is_integer = is_integer;
  token.integer = integer;
  token.unit = dollar ? Unit::kDollar : Unit::kNone;
  SPANBOX_RETURN_IF_ERROR(ReadUnit(token));
  token.written = text_.substr(begin, at_ - begin);
  return token;
}

// A time is a whole number of nanoseconds whenever it fits, however it is written: 1.1s is 1,100,000,000.
Status Lexer::ReadUnit(Token& token) {
  const std::size_t begin = at_;
  while (IsLetter(At(at_)) || IsDigit(At(at_)) || At(at_) == '.') ++at_;
  const std::string_view name = text_.substr(begin, at_ - begin);
  if (name.empty()) return OkStatus();
  for (const UnitName& unit : kUnits) {
    if (unit.name != name || token.unit == Unit::kDollar) continue;
    token.unit = Unit::kTime;
    token.number *= unit.ns;
    std::int64_t ns = 0;
    if (token.is_integer && !__builtin_mul_overflow(token.integer, static_cast<std::int64_t>(unit.ns), &ns)) {
      token.integer = ns;
    } else {
      token.is_integer = std::abs(token.number) < 9e18;
      token.integer = token.is_integer ? std::llround(token.number) : 0;
    }
    if (token.is_integer) token.number = static_cast<double>(token.integer);
    return OkStatus();
  }
  if (token.unit == Unit::kDollar) return ErrorAt(text_, begin, "expected nothing after an amount in dollars");
  return ErrorAt(text_, begin, "unknown unit " + Quoted(name) + ": use one of ns us ms s m h d");
}

bool Lexer::AtDate() const {
  constexpr std::string_view kShape = "dddd-dd-dd";
  for (std::size_t i = 0; i < kShape.size(); ++i) {
    const char c = At(at_ + i);
    if (kShape[i] == 'd' ? !IsDigit(c) : c != '-') return false;
  }
  return true;
}

// 2026-11-01, 2026-11-01T10:00, 2026-11-01T10:00:00, 2026-11-01T10:00:00.123456789, each with or without Z.
Result<Token> Lexer::Date() {
  const std::size_t begin = at_;
  const auto digits = [&](std::size_t n) {
    int value = 0;
    for (std::size_t i = 0; i < n; ++i, ++at_)
      value = IsDigit(At(at_)) && value >= 0 ? value * 10 + (At(at_) - '0') : -1;
    return value;
  };
  const auto after = [&](char c) { return At(at_) == c ? (++at_, true) : false; };
  const int year = digits(4);
  ++at_;
  const int month = digits(2);
  ++at_;
  const int day = digits(2);
  int hour = 0, minute = 0, second = 0;
  std::int64_t fraction_ns = 0;
  bool good = true;
  if (after('T')) {
    hour = digits(2);
    good = after(':');
    minute = digits(2);
    if (after(':')) second = digits(2);
    if (after('.')) {
      good = good && IsDigit(At(at_));
      for (std::int64_t unit = 100'000'000; IsDigit(At(at_)); ++at_, unit /= 10) fraction_ns += (At(at_) - '0') * unit;
    }
  }
  after('Z');
  at_ = std::min(at_, text_.size());
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  const bool clock = hour >= 0 && hour < 24 && minute >= 0 && minute < 60 && second >= 0 && second < 60;
  const bool ends = !IsLetter(At(at_)) && !IsDigit(At(at_)) && At(at_) != ':' && At(at_) != '+' && At(at_) != '-';
  if (!good || !clock || !ends || !date.ok() || year < 1678 || year > 2261) {
    return ErrorAt(text_, begin, "not a date: write 2026-11-01 or 2026-11-01T10:00:00Z, in UTC");
  }
  const std::int64_t days = std::chrono::sys_days(date).time_since_epoch().count();
  Token token = Made(TokenKind::kDate, begin);
  token.integer = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1'000'000'000 + fraction_ns;
  return token;
}

Result<Token> Lexer::Operator() {
  const std::size_t begin = at_;
  const char c = text_[at_++];
  const auto with_equal = [&](TokenKind longer, TokenKind shorter) {
    if (At(at_) != '=') return Made(shorter, begin);
    ++at_;
    return Made(longer, begin);
  };
  switch (c) {
    case '(':
      return Made(TokenKind::kOpen, begin);
    case ')':
      return Made(TokenKind::kClose, begin);
    case '[':
      return Made(TokenKind::kOpenList, begin);
    case ']':
      return Made(TokenKind::kCloseList, begin);
    case ',':
      return Made(TokenKind::kComma, begin);
    case '~':
      return Made(TokenKind::kMatches, begin);
    case '<':
      return with_equal(TokenKind::kLessEqual, TokenKind::kLess);
    case '>':
      return with_equal(TokenKind::kGreaterEqual, TokenKind::kGreater);
    case '=':
      if (At(at_) == '=') return with_equal(TokenKind::kEqual, TokenKind::kEqual);
      return ErrorAt(text_, begin, "= is no operator: write ==");
    case '!':
      if (At(at_) == '=') return with_equal(TokenKind::kNotEqual, TokenKind::kNotEqual);
      return ErrorAt(text_, begin, "! is no operator: write not");
    case '&':
      return ErrorAt(text_, begin, "& is no operator: write and");
    case '|':
      return ErrorAt(text_, begin, "| is no operator: write or");
    default:
      break;
  }
  std::size_t length = Utf8Length(text_, begin);
  if (length == 0) length = 1;
  return ErrorAt(text_, begin,
                 "unexpected " + Quoted(text_.substr(begin, length)) +
                     ": names with such characters go in backticks, text in double quotes");
}

}  // namespace spanbox
