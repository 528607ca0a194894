// Splits filter text into tokens, and words the errors of everything that reads it.
//
// Thread rule: not synchronised; functions are pure. Ownership: tokens borrow the text; it must outlive them.
// Units: positions are bytes from 0; messages count columns in characters from 1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "spanbox/status.h"

namespace spanbox {

// InvalidArgument with three lines: "column N: <what>", the filter, a caret under the place.
Status ErrorAt(std::string_view filter, std::size_t position, const std::string& what);

// What a message repeats of a user's text: one line, cut when it is long; Quoted puts it in double quotes, Ticked in
// backticks.
std::string Shown(std::string_view text);
std::string Quoted(std::string_view text);
std::string Ticked(std::string_view text);

enum class TokenKind {
  kEnd,
  kName,
  kString,
  kNumber,
  kDate,
  kOpen,
  kClose,
  kOpenList,
  kCloseList,
  kComma,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kMatches,
};

enum class Unit { kNone, kTime, kDollar };  // a kTime number is in nanoseconds

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::size_t position = 0;
  std::string_view written;  // as it stands in the filter
  std::string text;          // kName: without backticks; kString: unescaped
  bool backticked = false;
  Unit unit = Unit::kNone;
  bool is_integer = false;   // the number is exactly `integer`
  std::int64_t integer = 0;  // kDate: nanoseconds since 1970
  double number = 0;

  bool Is(std::string_view keyword) const { return kind == TokenKind::kName && !backticked && text == keyword; }
};

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  Result<Token> Next();

 private:
  Result<Token> Name();
  Result<Token> Backticked();
  Result<Token> String();
  Result<Token> Number();
  Result<Token> Date();
  Result<Token> Operator();
  Status ReadUnit(Token& token);
  bool AtDate() const;
  char At(std::size_t i) const { return i < text_.size() ? text_[i] : '\0'; }
  Token Made(TokenKind kind, std::size_t begin) const;

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace spanbox
